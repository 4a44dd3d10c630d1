"""What flows through data preparation: a row as it was read, a document that passed, a problem that
did not.

A document's `file` and `row` stay with it until it is tokenised, so that every message can point at
the place to mend. Rows count from 1; in CSV the header is row 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)

Reason = Literal[
    "broken_row",
    "bad_encoding",
    "missing_column",
    "empty_text",
    "unknown_label",
    "label_only_in_validation",
    "label_only_in_test",
    "duplicate_id",
    "shared_document",
    "missing_key",
    "wrong_type",
    "unusable_candidates",
    "unknown_answer",
    "no_supports",
    "no_room",
]

FIXES: dict[Reason, str] = {
    "broken_row": "mend or delete the row",
    "bad_encoding": "save the text as UTF-8",
    "missing_column": "add the value, or map the right column with data.columns",
    "empty_text": "delete the row",
    "unknown_label": "give a text or an integer as label, or map the right column with data.columns.label",
    "label_only_in_validation": "add documents of this label to train, or delete the row",
    "label_only_in_test": "add documents of this label to train, or delete the row",
    "duplicate_id": "make the id unique, or set data.columns.id=null to number the rows",
    "shared_document": "delete one of the copies: a document may be in one split only",
    "missing_key": (
        "add it: a question has query, answer, candidates, supports and, unless it is to be "
        "numbered, id"
    ),
    "wrong_type": "give texts for query, answer and id, and lists of texts for candidates and supports",
    "unusable_candidates": "give at least two candidates, each with a text and once only",
    "unknown_answer": "make the answer one of the candidates, letter for letter",
    "no_supports": "give at least one support, each with a text, or delete the question",
    "no_room": "raise data.max_tokens, or delete the question",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a source: column name -> value as the format gives it."""

    file: str
    number: int
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Document:
    """One valid example."""

    id: str
    text: str
    label: str
    file: str
    row: int

    @property
    def place(self) -> str:
        return f"{self.file} row {self.row}"

    @property
    def has_own_id(self) -> bool:
        """Whether the source gave the id."""
        return self.id != numbered_id(self.file, self.row)


def numbered_id(file: str, row: int) -> str:
    """The id of a document whose source gives none."""
    return f"{Path(file).name}:{row}"


@dataclass(frozen=True, slots=True)
class Question(Document):
    """One valid multiple-choice example.

    `text` is a hash of query, candidates, supports and answer (white space aside), by which copies
    are found; `label` is empty, because the candidates differ from question to question.
    """

    query: str
    candidates: tuple[str, ...]
    supports: tuple[str, ...]
    answer: int
    """Index of the answer among the candidates."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One row that cannot be used: where it is and what was found."""

    reason: Reason
    file: str
    row: int
    found: str

    def __str__(self) -> str:
        return f"{self.file} row {self.row}: {self.found}; {FIXES[self.reason]}"
