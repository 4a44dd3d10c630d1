"""Answers for files: complete or not at all, in order, equal to those of the live model."""

import csv
import gzip
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import ConfigError, DataError, RegistryError
from components.inference import classify
from components.inference.classifier import load_classifier
from pipelines.predict import Asked, predict, predict_several
from tests.registry_fixtures import LABELS, sample_texts

TEXTS = sample_texts(11)


def write(path, rows):
    if path.name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.name.endswith(".jsonl.gz"):
        with gzip.open(path, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    elif path.name.endswith(".csv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(path):
    with gzip.open(path, "rt") if path.name.endswith(".gz") else path.open() as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.csv", "in.parquet"])
def test_answers_equal_the_live_model_for_every_kind_of_file(name, tiny_adapter, tmp_path):
    folder, model = tiny_adapter("decoder")
    source = write(
        tmp_path / name, [{"id": f"d{row}", "text": text} for row, text in enumerate(TEXTS)]
    )
    report = predict(str(folder), input=source, output=tmp_path / "out.jsonl", tracking_uri=None)
    expected = classify(
        model, load_classifier(folder).tokenizer, TEXTS, max_tokens=96, temperature=1.7
    )
    answers = read(tmp_path / "out.jsonl")
    assert [answer["id"] for answer in answers] == [f"d{row}" for row in range(11)]
    for answer, row in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(
            np.array([answer["probabilities"][label] for label in LABELS], dtype=np.float32), row
        )
        assert answer["label"] == LABELS[int(row.argmax())]
    assert report.documents == 11 == sum(report.labels.values())


def test_documents_without_ids_are_named_by_row_and_output_may_be_compressed(
    tiny_adapter, tmp_path
):
    folder, _ = tiny_adapter("decoder")
    source = write(
        tmp_path / "in.jsonl", [{"body": "the space", "extra": 1}, {"body": "sports", "extra": 2}]
    )
    predict(
        str(folder),
        input=source,
        output=tmp_path / "out.jsonl.gz",
        tracking_uri=None,
        text_column="body",
    )
    assert [answer["id"] for answer in read(tmp_path / "out.jsonl.gz")] == [
        "in.jsonl:1",
        "in.jsonl:2",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "fine"}, {"text": " "}], "row 2: column 'text' holds an empty text"),
        ([{"text": "fine"}, {"text": 7}], "row 2: column 'text' holds no text"),
        ([{"body": "fine"}], "row 1: no column 'text'; the columns are body"),
    ],
)
def test_bad_row_is_named_and_no_output_is_left(rows, message, tiny_adapter, tmp_path):
    folder, _ = tiny_adapter("decoder")
    (tmp_path / "results").mkdir()
    source = write(tmp_path / "in.jsonl", rows)
    with pytest.raises(DataError, match=message):
        predict(
            str(folder), input=source, output=tmp_path / "results" / "out.jsonl", tracking_uri=None
        )
    assert list((tmp_path / "results").iterdir()) == []


def test_failed_prediction_keeps_the_earlier_output(tiny_adapter, tmp_path):
    folder, _ = tiny_adapter("decoder")
    (tmp_path / "out.jsonl").write_text("before")
    source = write(tmp_path / "in.jsonl", [{"text": "fine"}, {"text": ""}])
    with pytest.raises(DataError):
        predict(str(folder), input=source, output=tmp_path / "out.jsonl", tracking_uri=None)
    assert (tmp_path / "out.jsonl").read_text() == "before"


def test_wrong_paths_are_the_users_error_and_found_before_the_model(tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": "fine"}])
    with pytest.raises(DataError, match="no file"):
        predict(
            "anything",
            input=tmp_path / "absent.jsonl",
            output=tmp_path / "out.jsonl",
            tracking_uri=None,
        )
    with pytest.raises(ConfigError, match=r"must end in \.jsonl"):
        predict("anything", input=source, output=tmp_path / "out.csv", tracking_uri=None)
    with pytest.raises(ConfigError, match="neither a folder nor a registry address"):
        predict("anything", input=source, output=tmp_path / "out.jsonl", tracking_uri=None)
    with pytest.raises(ConfigError, match="tracking URI is empty"):
        predict(
            "models:/x@champion", input=source, output=tmp_path / "out.jsonl", tracking_uri=None
        )


def test_model_that_is_not_registered_is_the_users_error(mlflow_uri, tmp_path):
    source = write(tmp_path / "in.jsonl", [{"text": "fine"}])
    with pytest.raises(RegistryError, match="no registered model 'absent'"):
        predict(
            "models:/absent@champion",
            input=source,
            output=tmp_path / "out.jsonl",
            tracking_uri=mlflow_uri,
        )


def test_several_adapters_answer_each_document_under_their_names(tiny_adapter, tmp_path):
    folder, _ = tiny_adapter("decoder")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "calibration.json").write_text(json.dumps({"temperature": 3.0}))
    source = write(tmp_path / "in.jsonl", [{"text": text} for text in TEXTS])
    names = [str(folder), str(other)]
    for name, output in zip(names, ("one", "two"), strict=True):
        predict(name, input=source, output=tmp_path / f"{output}.jsonl", tracking_uri=None)
    asked = Asked(source, tmp_path / "out.jsonl")
    report = predict_several(names, asked, tracking_uri=None)
    one, two = read(tmp_path / "one.jsonl"), read(tmp_path / "two.jsonl")
    assert one != two
    for both, of_one, of_two in zip(read(tmp_path / "out.jsonl"), one, two, strict=True):
        identity = both["id"]
        assert [{"id": identity, **both["models"][name]} for name in names] == [of_one, of_two]
    assert report.documents == 11 and report.passes == ((names[0],), (names[1],))
    assert all(sum(labels.values()) == 11 for labels in report.labels.values())
    with pytest.raises(ConfigError, match="is named twice"):
        predict_several([names[0], names[0]], asked, tracking_uri=None)
