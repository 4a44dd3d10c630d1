"""Local files, row by row: JSON Lines, CSV (both also gzipped) and Parquet.

Bytes that are not UTF-8 do not stop the reading: they come through as surrogates, and validation
reports their row as `bad_encoding`.
"""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from components.data.documents import Problem, Row
from components.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_rows(path: str, config_path: str) -> Iterator[Row | Problem]:
    """Every row of one file in order. Raises `DataError` for a file that is missing, of an unknown
    kind or broken as a whole.
    """
    name = path.removesuffix(".gz")
    reader = next((read for suffix, read in READERS.items() if name.endswith(suffix)), None)
    if reader is None:
        raise DataError(
            f"{config_path}: cannot read '{path}': expected a name ending in .jsonl, .jsonl.gz, "
            ".csv, .csv.gz or .parquet"
        )
    check_exists(path, config_path)
    return _naming_damage(path, reader(path))


def check_exists(path: str, config_path: str) -> None:
    """Raises `DataError` that names the nearest file there is."""
    if Path(path).is_file():
        return
    folder = Path(path).parent
    near = get_close_matches(
        Path(path).name, [entry.name for entry in folder.iterdir()] if folder.is_dir() else [], n=1
    )
    hint = (
        f" Did you mean '{folder / near[0]}'?"
        if near
        else ""
        if folder.is_dir()
        else f" The folder '{folder}' does not exist either."
    )
    raise DataError(
        f"{config_path}: no file '{path}'.{hint} Give the path with --set {config_path}=..."
    )


def _naming_damage(path: str, rows: Iterator[Row | Problem]) -> Iterator[Row | Problem]:
    last = 0
    try:
        for row in rows:
            last = row.number if isinstance(row, Row) else row.row
            yield row
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: the gzip data is damaged after row {last} ({error}); copy the file again"
        ) from error
    except PermissionError as error:
        raise DataError(f"{path}: may not be read by this user; change its permissions") from error
    except csv.Error as error:
        raise DataError(
            f"{path}: not readable as CSV after row {last} ({error}); mend the quoting there"
        ) from error


def _open(path: str) -> IO[bytes]:
    return cast(
        "IO[bytes]", gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb")
    )


def _read_jsonl(path: str) -> Iterator[Row | Problem]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                _refuse_utf16(path, line)
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            try:
                values = json.loads(line.decode("utf-8", "surrogateescape"))
            except ValueError as error:
                yield Problem("broken_row", path, number, f"not valid JSON ({error})")
                continue
            if isinstance(values, dict):
                yield Row(path, number, values)
            else:
                yield Problem(
                    "broken_row",
                    path,
                    number,
                    f"expected a JSON object, got {type(values).__name__}",
                )


def _read_csv(path: str) -> Iterator[Row | Problem]:
    csv.field_size_limit(sys.maxsize)  # the default refuses documents over 131,072 characters
    with _open(path) as file:
        lines = (line.decode("utf-8", "surrogateescape") for line in file)
        reader = csv.reader(lines)
        header = [name.removeprefix("\ufeff") for name in next(reader, [])]
        _refuse_utf16(path, "".join(header[:1]).encode("utf-8", "surrogateescape"))
        for number, fields in enumerate(reader, start=2):
            if not fields:
                continue
            if len(fields) == len(header):
                yield Row(path, number, dict(zip(header, fields, strict=True)))
            else:
                yield Problem(
                    "broken_row",
                    path,
                    number,
                    f"{len(fields)} fields where the header names {len(header)}",
                )


def _read_parquet(path: str) -> Iterator[Row | Problem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({error}); write it again") from error
    number = 0
    with file:
        for batch in file.iter_batches(batch_size=1000):
            columns = [_column_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                number += 1
                yield Row(path, number, dict(zip(batch.schema.names, values, strict=True)))


def _column_values(column: "pa.Array") -> list[object]:
    """Python values; text is decoded here because Arrow raises on bytes that are not UTF-8 without
    saying where.
    """
    import pyarrow as pa

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        values: list[object] = column.to_pylist()
        return values
    binary = pa.binary() if pa.types.is_string(column.type) else pa.large_binary()
    return [
        None if value is None else value.decode("utf-8", "surrogateescape")
        for value in column.cast(binary).to_pylist()
    ]


def _refuse_utf16(path: str, start: bytes) -> None:
    if start.startswith(UTF16_MARKS):
        raise DataError(f"{path}: encoded as UTF-16; save it as UTF-8")


READERS: dict[str, Callable[[str], Iterator[Row | Problem]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
