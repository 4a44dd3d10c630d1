import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.documents import Problem, Row
from components.data.files import read_rows
from components.errors import DataError

ROWS = [
    {"id": "1", "text": 'one, "two"\nthree', "label": "x"},
    {"id": "2", "text": "four \u00e9", "label": "y"},
]


def write(path, rows):
    if path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in path.name:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def read(path):
    return list(read_rows(str(path), "data.files.train"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.parquet"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    write(tmp_path / name, ROWS)
    rows = read(tmp_path / name)
    assert [dict(row.values) for row in rows] == ROWS
    assert [row.number for row in rows] == ([2, 3] if ".csv" in name else [1, 2])


def test_a_byte_order_mark_and_blank_lines_are_no_data(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "a"}\n\n{"text": "b"}\n')
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\r\na,x\r\n")
    assert [row.number for row in read(tmp_path / "a.jsonl")] == [1, 3]
    assert dict(read(tmp_path / "a.csv")[0].values) == {"text": "a", "label": "x"}


def test_a_csv_field_may_be_longer_than_the_csv_modules_default(tmp_path):
    write(tmp_path / "a.csv", [{"text": "word " * 100_000, "label": "x"}])
    assert len(read(tmp_path / "a.csv")[0].values["text"]) == 500_000


def test_a_broken_row_is_a_problem_with_its_number(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": \n[1]\n')
    (tmp_path / "a.csv").write_text("text,label\na,x\nb\n")
    first, second, third = read(tmp_path / "a.jsonl")
    assert isinstance(first, Row)
    assert (second.reason, second.row) == ("broken_row", 2)
    assert "expected a JSON object, got list" in str(third)
    problem = read(tmp_path / "a.csv")[1]
    assert isinstance(problem, Problem)
    assert "a.csv row 3: 1 fields where the header names 2" in str(problem)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_bytes_that_are_not_utf8_do_not_stop_the_reading(tmp_path, name):
    if name == "a.parquet":
        text = pa.array([b"caf\xe9", b"ok"], pa.binary()).view(pa.string())
        pq.write_table(pa.table({"text": text}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(
            b'{"text": "caf\xe9"}\n{"text": "ok"}\n'
            if name == "a.jsonl"
            else b"text\ncaf\xe9\nok\n"
        )
    bad, good = read(tmp_path / name)
    assert good.values["text"] == "ok"
    with pytest.raises(UnicodeEncodeError):
        bad.values["text"].encode()


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path):
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(
        DataError,
        match=r"data\.files\.train: no file .*trian\.jsonl'\. Did you mean '.*/train\.jsonl'",
    ):
        read(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match=r"folder .* does not exist either"):
        read(tmp_path / "no" / "train.jsonl")


def test_a_file_that_is_broken_as_a_whole_is_named(tmp_path):
    write(tmp_path / "a.jsonl.gz", ROWS * 1000)
    (tmp_path / "a.jsonl.gz").write_bytes((tmp_path / "a.jsonl.gz").read_bytes()[:-20])
    with pytest.raises(DataError, match="gzip data is damaged after row"):
        read(tmp_path / "a.jsonl.gz")
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="not a Parquet file"):
        read(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("text,label\na,b\n", encoding="utf-16")
    with pytest.raises(DataError, match="UTF-16"):
        read(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"expected a name ending in \.jsonl"):
        read(tmp_path / "a.txt")
