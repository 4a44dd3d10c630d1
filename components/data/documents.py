"""What flows through data preparation: a row as it was read, an example that passed, a problem that
did not.

An example's `file` and `row` stay with it until it is tokenised, so that every message can point at
the place to fix. Rows count from 1; in CSV the header is row 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from components.moved_names import moved_names

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)

READING = 2
"""Raise it when the same files give other rows, or are refused: documents that were prepared before
are then read anew.
"""

FIXES: dict[str, str] = {
    "broken_row": "fix or delete the row",
    "bad_encoding": "save the text as UTF-8; of an escape write both halves, or none",
    "repeated_column": "keep one of them, or rename the other",
    "missing_column": "add the value, or map the right column with data.columns",
    "empty_text": "delete the row",
    "duplicate_id": "make the id unique, or set data.columns.id=null to number the rows",
    "shared_document": "delete one of the copies: a document may be in one split only",
}
"""What to do about a problem that any task may have; a task names its own with the problem."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a source: column name -> value as the format gives it."""

    file: str
    number: int
    values: Mapping[str, object]
    unread: tuple[str, ...] = ()
    """Names of columns that nobody asked for and that were not read."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns that the record has."""
        return (*self.values, *self.unread)


class Example(Protocol):
    """One valid document, whatever is learnt from it."""

    @property
    def id(self) -> str: ...

    @property
    def file(self) -> str: ...

    @property
    def row(self) -> int: ...

    @property
    def content(self) -> str:
        """What copies are found by, white space aside: they must not be in two splits."""

    @property
    def stratum(self) -> str:
        """Carved and capped splits hold each stratum in proportion; one for all: no strata."""

    @property
    def target(self) -> object:
        """What is to be learnt of it, JSON-able, as far as `content` does not say it."""


def place_of(example: Example) -> str:
    """Where it stands, for a message."""
    return f"{example.file} row {example.row}"


def has_own_id(example: Example) -> bool:
    """Whether the source gave the id."""
    return example.id != numbered_id(example.file, example.row)


def numbered_id(file: str, row: int) -> str:
    """The id of a document whose source gives none."""
    return f"{Path(file).name}:{row}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One row that cannot be used: where it is and what was found."""

    reason: str
    file: str
    row: int
    found: str
    fix: str = ""
    """What to do about it; empty: as FIXES says for the reason."""

    def __str__(self) -> str:
        return f"{self.file} row {self.row}: {self.found}; {self.fix or FIXES[self.reason]}"


if not TYPE_CHECKING:
    __getattr__ = moved_names(__name__)
