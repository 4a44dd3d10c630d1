"""Parquet, row by row, and of it only the columns that are asked for: what nobody mapped may hold
anything.

A value that Python or Unicode cannot hold is a problem of its row; a page that cannot be decoded
ends the file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from components.data.columns import KEEP_ONE, RepeatedColumn, positions
from components.data.content import GZIP, PARQUET, what_it_is
from components.data.documents import Problem, Row
from components.data.lookalikes import shown
from components.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_BATCH = 1000
VALUE_ERRORS = (ValueError, KeyError, ArithmeticError, TypeError)
"""What conversion to Python raises for dates out of range, unknown zones, bytes that are no text;
Arrow's own errors are some of these.
"""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """A value that has no form in Python."""

    kind: str


def read_parquet(path: str, columns: Sequence[str] | None) -> Iterator[Row | Problem]:
    """Rows with the values of `columns` (None: of all). Raises `DataError` where the file or one of
    its pages is damaged.
    """
    import pyarrow as pa

    read = 0
    try:
        for values, others in _batches(path, columns):
            for row in values:
                read += 1
                yield readable_row(path, read, row, others)
    except PermissionError:
        raise
    except (pa.ArrowException, OSError, *VALUE_ERRORS) as error:
        reason = shown(" ".join(str(error).split()), 200)
        fix = "save the text as UTF-8" if "UTF8" in reason else "copy or write the file again"
        raise DataError(f"{path}: damaged after row {read} ({reason}); {fix}") from error


def _batches(
    path: str, columns: Sequence[str] | None
) -> Iterator[tuple[list[dict[str, object]], tuple[str, ...]]]:
    """Values of each batch by column name, and the names of the columns that are not read."""
    import pyarrow.parquet as pq

    _check_kind(path)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        try:
            places = positions(names, columns if columns is not None else names)
        except RepeatedColumn as error:
            raise DataError(f"{path}: {error}; {KEEP_ONE}") from error
        others = tuple(name for place, name in enumerate(names) if place not in places.values())
        wanted = {column: names[place] for column, place in places.items()}
        read = 0
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=list(wanted.values())):
            read += batch.num_rows
            by_column = {column: batch.column(name) for column, name in wanted.items()}
            yield rows_of_columns(by_column, batch.num_rows), others
        if read != file.metadata.num_rows:
            raise DataError(
                f"{path}: holds {read} of the {file.metadata.num_rows} rows that it announces; "
                "copy or write the file again"
            )


def _check_kind(path: str) -> None:
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith(GZIP):
        raise DataError(f"{path}: not a Parquet file, but compressed by gzip; unpack it")
    if not start.startswith(PARQUET):
        found = what_it_is(path, start)
        raise DataError(
            f"{path}: not a Parquet file{f', but {found}' if found else '; write it again'}"
        )


def readable_row(
    path: str, number: int, values: dict[str, object], others: tuple[str, ...]
) -> Row | Problem:
    """The row of these values, or its first value that has no form in Python."""
    for column, value in values.items():
        if isinstance(value, _Unreadable):
            found = f"column '{shown(column)}' holds a {value.kind} that cannot be read"
            return Problem("broken_row", path, number, found, "mend it, or map another column")
    return Row(path, number, values, others)


def rows_of_columns(columns: "Mapping[str, pa.Array]", count: int) -> list[dict[str, object]]:
    """Values of `count` rows by column name, for `readable_row`."""
    values = [_values(column) for column in columns.values()]
    rows = zip(*values, strict=True) if values else [()] * count
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _values(column: "pa.Array") -> list[object]:
    """Python values; bytes are taken for text, decimals without a fraction for integers."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.binary() if pa.types.is_string(kind) else pa.large_binary())
    values = _python_values(column)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        # decoded here because Arrow raises on bytes that are not UTF-8 without saying where
        return [
            value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
            for value in values
        ]
    if pa.types.is_decimal(kind) and kind.scale <= 0:
        return [int(value) if isinstance(value, Decimal) else value for value in values]
    return values


def _python_values(column: "pa.Array") -> list[object]:
    try:
        values: list[object] = column.to_pylist()
    except VALUE_ERRORS:
        return [_python_value(scalar) for scalar in column]
    return values


def _python_value(scalar: Any) -> object:
    try:
        value: object = scalar.as_py()
    except VALUE_ERRORS:
        return _Unreadable(str(scalar.type))
    return value
