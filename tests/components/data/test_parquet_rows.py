import datetime
import decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.documents import Problem, Row
from components.data.files import read_rows
from components.errors import DataError

TEXTS = [f"boat {number} calls at dawn" for number in range(40)]
LABELS = ["in" if number % 2 else "out" for number in range(40)]
NOT_UTF8 = pa.array([b"caf\xe9"] * 40, pa.binary()).view(pa.string())


def read(path, columns=("text", "label", "id")):
    return list(read_rows(str(path), "data.files.train", columns))


def write(path, **columns):
    table = pa.table({"text": pa.array(TEXTS), "label": pa.array(LABELS), **columns})
    pq.write_table(table, path, row_group_size=10)
    return path


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**62] * 40, pa.timestamp("us")),
        pa.array([1] * 40, pa.timestamp("us", tz="Mars/Olympus")),
        NOT_UTF8,
        pa.StructArray.from_arrays([NOT_UTF8], ["inner"]),
        pa.DictionaryArray.from_arrays(pa.array([0] * 40), NOT_UTF8[:1]),
        pa.ListArray.from_arrays(pa.array(range(41), pa.int32()), NOT_UTF8),
    ],
)
def test_columns_that_nobody_mapped_may_hold_anything(tmp_path, column):
    rows = read(write(tmp_path / "a.parquet", logged=column))
    assert [dict(row.values) for row in rows] == [
        {"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    assert rows[0].columns == ("text", "label", "logged")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pa.array(["in"] * 40).dictionary_encode(), "in"),
        (pa.array([b"in"] * 40, pa.binary()), "in"),
        (pa.array(["in"] * 40, pa.large_string()), "in"),
        (pa.array([decimal.Decimal(7)] * 40, pa.decimal128(38, 0)), 7),
        (pa.array([decimal.Decimal("7.50")] * 40, pa.decimal128(9, 2)), decimal.Decimal("7.50")),
        (pa.array([datetime.date(2020, 1, 2)] * 40), datetime.date(2020, 1, 2)),
        (pa.array([["in"]] * 40), ["in"]),
        (pa.array([None] * 40, pa.string()), None),
    ],
)
def test_mapped_values_of_every_type_come_as_python_has_them(tmp_path, column, value):
    rows = read(write(tmp_path / "a.parquet", label=column))
    assert [row.values["label"] for row in rows] == [value] * 40


def test_a_mapped_value_that_python_cannot_hold_is_a_problem_of_its_row(tmp_path):
    times = pa.array([0] * 17 + [2**62] + [0] * 22, pa.timestamp("us"))
    rows = read(write(tmp_path / "a.parquet", id=times))
    (problem,) = [row for row in rows if isinstance(row, Problem)]
    assert (problem.row, len(rows)) == (18, 40)
    assert "column 'id' holds a timestamp[us] that cannot be read" in str(problem)


def test_mapped_bytes_that_are_not_utf8_come_through_or_stop_in_one_line(tmp_path):
    rows = read(write(tmp_path / "a.parquet", text=NOT_UTF8))
    assert all(isinstance(row, Row) and row.values["text"] == "caf\udce9" for row in rows)
    path = write(
        tmp_path / "b.parquet", text=pa.DictionaryArray.from_arrays(pa.array([0] * 40), NOT_UTF8)
    )
    with pytest.raises(DataError, match=r"b\.parquet: .*UTF8.*; save the text as UTF-8"):
        read(path)


@pytest.mark.parametrize("checksums", [True, False])
def test_a_damaged_page_names_the_file_and_the_last_whole_row(tmp_path, checksums):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": TEXTS * 100, "label": LABELS * 100})
    pq.write_table(table, path, row_group_size=1000, write_page_checksum=checksums)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    content[start + 40 : start + 60] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: damaged after row 2000 \(.*\); copy or"):
        read(path)


def test_two_columns_of_a_mapped_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, ["text", "label", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="columns 2 and 3 are both named 'label'; keep one"):
        read(tmp_path / "a.parquet")
    pq.write_table(table.rename_columns(["text", "label", "note"]), tmp_path / "b.parquet")
    assert len(read(tmp_path / "b.parquet")) == 1


def test_a_file_without_a_mapped_column_still_tells_which_there_are(tmp_path):
    pq.write_table(pa.table({"body": ["a", "b"]}), tmp_path / "a.parquet")
    assert [row.columns for row in read(tmp_path / "a.parquet")] == [("body",), ("body",)]
