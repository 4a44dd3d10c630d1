"""Records of multiple-choice questions from files in the form of WikiHop's release (qangaroo): JSON
that holds
one list of records.

    [{"id": "WH_train_0", "query": "country of citizenship someone", "answer": "france",
    "candidates": ["france", "spain"], "supports": ["A document.", "Another."]}, ...]

Other keys (annotations) are left alone. Rows count from 1: row 3 is the third record of the list.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.columns import listed
from components.data.content import check_exists, naming_damage, opened_text
from components.data.documents import SPLITS, Problem, Row, SplitName
from components.data.json_rows import RepeatingObject, parsed_json
from components.data.settings import DataConfig
from components.errors import DataError
from components.moved_names import moved_names

SUFFIXES = (".json", ".json.gz")


def state(config: DataConfig) -> object:
    """Path, size and modification time of each file, and what is kept of a question."""
    assert config.qangaroo is not None
    found: dict[str, object] = {"max_chunks": config.qangaroo.max_chunks}
    for split, path in _paths(config).items():
        check_exists(path, f"data.qangaroo.{split}")
        status = Path(path).stat()
        found[split] = [str(Path(path).resolve()), status.st_size, status.st_mtime_ns]
    return found


def read(config: DataConfig, _: object) -> dict[SplitName, Iterator[Row | Problem]]:
    """The records of every file. Raises `DataError` for a file that is unreadable as a whole."""
    return {split: rows(path, f"data.qangaroo.{split}") for split, path in _paths(config).items()}


def _paths(config: DataConfig) -> dict[SplitName, str]:
    assert config.qangaroo is not None
    return {
        split: path for split in SPLITS if (path := getattr(config.qangaroo, split)) is not None
    }


def rows(path: str, config_path: str) -> Iterator[Row | Problem]:
    """The records of one file in order. Raises `DataError` where it is missing, no JSON, or no
    list.
    """
    if not path.lower().endswith(SUFFIXES):
        raise DataError(
            f"{config_path}: cannot read '{path}': expected a name ending in "
            f"{' or '.join(SUFFIXES)}"
        )
    check_exists(path, config_path)
    with naming_damage(path), opened_text(path) as file:
        text = file.read()
    try:
        records = parsed_json(text)
    except ValueError as error:
        raise DataError(
            f"{path}: not readable as JSON ({error}); give the data set's own file"
        ) from error
    if not isinstance(records, list):
        raise DataError(
            f"{path}: holds {type(records).__name__}, expected one list of questions; give the "
            "data set's own file"
        )
    for number, record in enumerate(records, start=1):
        if isinstance(record, RepeatingObject):
            found = f"has two keys of one name ({listed(record.repeated)})"
            yield Problem("repeated_column", path, number, found, "keep one of them")
        elif isinstance(record, dict):
            yield Row(path, number, record)
        else:
            yield Problem(
                "broken_row", path, number, f"expected a JSON object, got {type(record).__name__}"
            )


if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
