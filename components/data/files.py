"""Local files, row by row: JSON Lines, CSV (both also gzipped) and Parquet.

Bytes that are not UTF-8 do not stop the reading: they come through as surrogates, and validation
reports their row as `bad_encoding`. What can be told of one row is a `Problem` of that row; what
makes the rest of the file unreadable is a `DataError`.
"""

from collections.abc import Callable, Iterator, Sequence

from components.data.content import check_exists, naming_damage
from components.data.csv_rows import read_csv
from components.data.documents import Problem, Row
from components.data.json_rows import read_jsonl
from components.data.parquet_rows import read_parquet
from components.errors import DataError


def read_rows(
    path: str, config_path: str, columns: Sequence[str] | None = None
) -> Iterator[Row | Problem]:
    """Every row of one file in order. `columns`: those that the settings map; of a Parquet file no
    others are read, and a second one of such a name is refused. None: all.

    Raises `DataError` for a file that is missing, of an unknown kind or broken as a whole.
    """
    name = path.lower().removesuffix(".gz")
    reader = next((read for suffix, read in READERS.items() if name.endswith(suffix)), None)
    if reader is None:
        raise DataError(
            f"{config_path}: cannot read '{path}': expected a name ending in .jsonl, .jsonl.gz, "
            ".csv, .csv.gz or .parquet"
        )
    check_exists(path, config_path)
    return _naming_damage(path, reader(path, columns))


def _naming_damage(path: str, rows: Iterator[Row | Problem]) -> Iterator[Row | Problem]:
    last = 0
    with naming_damage(path, lambda: f" after row {last}"):
        for row in rows:
            last = row.number if isinstance(row, Row) else row.row
            yield row


READERS: dict[str, Callable[[str, Sequence[str] | None], Iterator[Row | Problem]]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
