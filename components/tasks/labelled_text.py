"""Texts with one label each, which is what classification learns from: read from rows, checked on
their own and between each other.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from components.data.documents import Example, Problem, Row, SplitName
from components.data.settings import ColumnsConfig
from components.data.validation import (
    Splits,
    encoding_fault,
    examples_of,
    id_of,
    label_order,
    text_of,
)
from components.errors import DataError

LABEL_FIX = "give a text or an integer as label, or map the right column with data.columns.label"
STRANGER_FIX = "add documents of this label to train, or delete the row"


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One valid document."""

    id: str
    text: str
    label: str
    file: str
    row: int

    @property
    def content(self) -> str:
        return self.text

    @property
    def stratum(self) -> str:
        return self.label

    @property
    def target(self) -> str:
        return self.label


def labelled_texts(
    rows: Iterable[Row | Problem], columns: ColumnsConfig
) -> tuple[list[Example], list[Problem]]:
    """Checks each row on its own. Raises `DataError` when no row at all has a mapped column."""
    needed = {"text": columns.text, "label": columns.label}
    return examples_of(rows, lambda row: _labelled_text(row, columns), needed)


def _labelled_text(row: Row, columns: ColumnsConfig) -> LabelledText | Problem:
    text = text_of(row, columns.text)
    if columns.text in row.values and columns.label not in row.values:
        return Problem("missing_column", row.file, row.number, f"no column '{columns.label}'")
    if isinstance(text, Problem):
        return text
    label = _label(row.values[columns.label])
    if label is None:
        found = f"column '{columns.label}' holds {row.values[columns.label]!r}"
        return Problem("unknown_label", row.file, row.number, found, LABEL_FIX)
    identity = id_of(row, columns.id)
    values = {columns.text: text, columns.label: label, columns.id or "id": identity}
    fault = encoding_fault(row, values)
    return fault or LabelledText(identity, text, label, row.file, row.number)


def _label(value: object) -> str | None:
    """Text and integers as text, so that 1 in Parquet and "1" in CSV are one label; true and false
    as JSON writes them.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def class_names(examples: Iterable[Example]) -> tuple[str, ...]:
    """The classes of the training documents in the order of label ids. Raises `DataError` for fewer
    than two.
    """
    labels = label_order(example.stratum for example in examples)
    if len(labels) < 2:
        raise DataError(
            f"data: train has only the label '{labels[0]}'; a classification task needs at least "
            "two labels (check data.columns.label)"
        )
    return labels


def without_labels_unknown_to_train(splits: Splits) -> tuple[Splits, list[Problem]]:
    """Documents of validation and test whose label train has too, and the others."""
    known = {example.stratum for example in splits["train"]}
    kept: Splits = {"train": splits["train"]}
    problems: list[Problem] = []
    others: tuple[SplitName, ...] = ("validation", "test")
    for split in others:
        if split not in splits:
            continue
        kept[split] = [example for example in splits[split] if example.stratum in known]
        problems += [
            Problem(
                f"label_only_in_{split}",
                example.file,
                example.row,
                f"label '{example.stratum}' is not in train",
                STRANGER_FIX,
            )
            for example in splits[split]
            if example.stratum not in known
        ]
    return kept, problems
