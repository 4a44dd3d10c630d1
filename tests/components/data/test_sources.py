import json

import pytest

from components.data.settings import ColumnsConfig, DataConfig, HubConfig
from components.data.sources import SOURCES, source_of
from components.errors import DataError
from components.tasks.labelled_text import labelled_texts


def never(text, count):
    raise AssertionError("only installed_source counts tokens")


def test_the_table_and_the_schema_name_the_same_sources():
    settings = {
        name
        for name, field in DataConfig.model_fields.items()
        if "Config | None" in str(field.annotation)
    }
    assert set(SOURCES) == settings


def test_a_hub_data_set_is_read_with_label_names_and_mapped_columns(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"body": datasets.Value("string"), "kind": datasets.ClassLabel(names=["ham", "spam"])}
    )
    rows = {"body": ["a", "b", "c"], "kind": [1, 0, -1]}
    folder = tmp_path / "mail"
    folder.mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(folder / "train.parquet"))
    config = DataConfig(
        hub=HubConfig(name=str(folder)), columns=ColumnsConfig(text="body", label="kind")
    )
    rows = source_of(config).read(config, never)["train"]
    documents, problems = labelled_texts(rows, source_of(config).columns(config))
    assert [(document.text, document.label) for document in documents] == [
        ("a", "spam"),
        ("b", "ham"),
    ]
    assert [(problem.reason, problem.row) for problem in problems] == [("unknown_label", 3)]
    wrong = DataConfig(hub=HubConfig(name=str(folder), train="trian"))
    with pytest.raises(DataError, match=r"data\.hub: cannot load split 'trian'"):
        list(source_of(wrong).read(wrong, never)["train"])


def test_the_state_of_a_file_changes_with_its_content_and_reads_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    config = DataConfig.model_validate_json(json.dumps({"files": {"train": str(path)}}))
    with pytest.raises(DataError, match=r"data\.files\.train: no file"):
        source_of(config).state(config)
    path.write_text("not json")
    before = source_of(config).state(config)
    assert source_of(config).state(config) == before
    path.write_text("not json either")
    assert source_of(config).state(config) != before
