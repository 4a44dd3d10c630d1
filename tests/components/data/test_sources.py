import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.documents import Row
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


@pytest.fixture
def folder_rows(tmp_path, monkeypatch):
    """Rows of a local folder with these files, by `data.hub`."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def rows(**files):
        folder = tmp_path / "boats"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)
        config = DataConfig(hub=HubConfig(name=str(folder)))
        return list(source_of(config).read(config, never)["train"])

    return rows


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a_jsonl": '{"text": "a", "label": "x"}\n{"text": \n'},
            r"a\.jsonl row 2: not valid JSON",
        ),
        ({"a_csv": 'text,label\n"a,x\nb,y\n'}, r"a\.csv row 2: a quoted field opens here"),
        ({"a_csv": 'text,label\n"a,x\n"b,y\n'}, r"a\.csv row 2: a quoted field opens here"),
        ({"a_csv": "text,label,label\na,x,y\n"}, "columns 2 and 3 are both named 'label'"),
        (
            {"a_jsonl": '{"text": "a", "label": "x"}\n', "b_jsonl": '{"text": "a", "kind": "x"}\n'},
            r"b\.jsonl row 1: the columns are text, kind, in .*a\.jsonl they are text, label; give",
        ),
        ({"a_json": '[{"text": "a", "label": "x"}, {"text":'}, r"data\.hub: cannot load split"),
        ({"a_parquet": "PAR1 and nothing"}, r"a\.parquet: damaged after row 0"),
        (
            {"train_csv": "text,label\na,x\n", "train_jsonl": '{"text": "a", "label": "x"}\n'},
            r"train\.csv: would not be read beside train\.jsonl; .*data\.files",
        ),
    ],
)
def test_a_broken_file_of_a_local_folder_is_named(folder_rows, files, message):
    with pytest.raises(DataError, match=message) as refused:
        folder_rows(**files)
    assert str(refused.value).isprintable()


def test_a_local_folder_gives_the_mapped_columns_of_all_its_files(folder_rows):
    rows = folder_rows(a_csv='\ufefftext,label,note\n"a\nb",x,1\nc,y,2\n')
    assert [dict(row.values) for row in rows] == [
        {"text": "a\nb", "label": "x"},
        {"text": "c", "label": "y"},
    ]
    assert rows[0].columns == ("text", "label", "note")


def test_a_folder_without_mapped_columns_or_with_unreadable_values_says_so(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    times = pa.array([0, 2**62], pa.timestamp("us"))
    for name, columns in {
        "a": {"body": ["a", "b"]},
        "b": {"text": ["a", "b"], "id": times},
    }.items():
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(columns), tmp_path / name / "train.parquet")
    config = DataConfig(hub=HubConfig(name=str(tmp_path / "a")))
    rows = source_of(config).read(config, never)["train"]
    with pytest.raises(DataError, match="no column 'text'; the columns are body"):
        labelled_texts(rows, config.columns)
    config = DataConfig(hub=HubConfig(name=str(tmp_path / "b")))
    first, second = source_of(config).read(config, never)["train"]
    assert isinstance(first, Row) and first.values["text"] == "a"
    assert "train row 2: column 'id' holds a timestamp[us] that cannot be read" in str(second)


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
