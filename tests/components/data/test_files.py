import csv
import gzip
import json
import re

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
    (tmp_path / "parts.parquet").mkdir()
    with pytest.raises(DataError, match=r"data\.files\.train: '.*' is a folder; give one of the"):
        read(tmp_path / "parts.parquet")
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


TABLE = "text,label\ncalls at d\u00e9part,in\n"


def gzipped(content):
    """The same bytes at any time: they stand in the names of tests, which workers compare."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", gzipped(TABLE.encode()), r"compressed by gzip; name it a\.csv\.gz"),
        ("a.csv.gz", TABLE.encode(), r"not compressed by gzip; name it a\.csv,"),
        ("a.csv.gz", b"", "empty, not even a gzip header; copy the file again"),
        ("a.csv.gz", gzipped(gzipped(b"a")), "packed here is compressed .*; unpack"),
        ("a.csv.gz", gzipped(TABLE.encode("utf-16")), "UTF-16; save it as UTF-8"),
        ("a.csv", b"PK\x03\x04" + bytes(40), "an Excel workbook; .*save the table as CSV"),
        ("a.jsonl", b"PAR1\x15\x04", r"a Parquet file; name it a\.parquet"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*lfs pull"),
        ("a.csv", b"<!DOCTYPE html><html>", "a web page.*download the file itself again"),
        ("a.csv", b"\x28\xb5\x2f\xfd....", "compressed by zstd; decompress it"),
        ("a.csv", bytes(100), "starts with NUL bytes; copy it again"),
        ("a.parquet", gzipped(b"PAR1"), "not a Parquet file, but compressed by gzip"),
        ("a.parquet", b"", "not a Parquet file; write it again"),
    ],
)
def test_content_that_is_not_what_the_name_says_is_refused_with_what_mends_it(
    tmp_path, name, content, message
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        read(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
@pytest.mark.parametrize("order", ["", "-le", "-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_other_encodings_are_named_with_and_without_a_mark(tmp_path, encoding, order, name):
    content = TABLE if name == "a.csv" else json.dumps({"text": "calls"})
    (tmp_path / name).write_bytes(content.encode(encoding + order))
    with pytest.raises(DataError, match=f"encoded as {encoding.upper()}; save it as UTF-8"):
        read(tmp_path / name)


def test_the_case_of_a_names_ending_does_not_matter(tmp_path):
    write(tmp_path / "a.csv", ROWS)
    (tmp_path / "a.csv").rename(tmp_path / "A.CSV")
    assert [dict(row.values) for row in read(tmp_path / "A.CSV")] == ROWS


def read_line(tmp_path, line, columns=("text", "label")):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "before", "label": "x"}}\n{line}\n', encoding="utf-8")
    first, second = read_rows(str(path), "data.files.train", columns)
    assert isinstance(first, Row)
    return second


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "label": "x", "label": "y"}', "columns 2 and 3 are both named 'label'"),
        ('{"text": "a", "label": "x", "label\u200b": "y"}', "look the same; keep one of them"),
        ('{"text": "a", "note": ' + "[" * 3000 + "]" * 3000 + "}", "nested too deeply"),
        ('["text", "label"]', "got list; write one JSON object per line"),
        ("calls at dawn,in", r"write one JSON object per line .*\.csv"),
    ],
)
def test_a_broken_line_of_json_is_named(tmp_path, line, message):
    problem = read_line(tmp_path, line)
    assert isinstance(problem, Problem) and problem.row == 2
    assert re.search(message, str(problem))


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ('{"text": "a", "label": ' + "9" * 5000 + "}", "9" * 5000),
        ('{"text": "a", "label": "x", "note": -' + "9" * 5000 + "}", "x"),
        ('{"text": "a", "label": "x", "note": [NaN, Infinity, -Infinity, 1e999]}', "x"),
        ('{"text": "a", "label": "x", "note": 1, "note": 2}', "x"),
        ('{"text": "a", "label": "x", "note": {"a": 1, "a": 2}}', "x"),
        ('\ufeff{"text": "a", "label": "x"}', "x"),
    ],
)
def test_what_json_allows_beside_the_mapped_values_does_not_matter(tmp_path, line, label):
    row = read_line(tmp_path, line)
    assert isinstance(row, Row) and str(row.values["label"]) == label


def test_json_over_several_lines_is_named_as_what_it_is(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS, indent=2))
    with pytest.raises(DataError, match="one JSON value over several lines; write one object per"):
        read(tmp_path / "a.jsonl")


def test_lines_of_json_may_end_with_carriage_returns_alone(tmp_path):
    (tmp_path / "a.jsonl").write_bytes("\r".join(json.dumps(row) for row in ROWS).encode())
    assert [dict(row.values) for row in read(tmp_path / "a.jsonl")] == ROWS
