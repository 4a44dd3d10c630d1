"""Texts with one label each, which is what classification learns from: read from rows, checked on
their own and between each other, and made rows of the cache.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from components.data.documents import Example, Problem, Row, SplitName, place_of
from components.data.json_rows import LongInteger
from components.data.lookalikes import is_blank, plain, shown, shown_exactly
from components.data.prepared import TokenizedDocument
from components.data.settings import ColumnsConfig
from components.data.tokenization import Encoded
from components.data.validation import (
    Splits,
    encoding_fault,
    examples_of,
    id_of,
    kind_of,
    label_order,
    text_of,
)
from components.errors import DataError

LABEL_FIX = "give a text or an integer as label, or map the right column with data.columns.label"
LOOKALIKE_FIX = "write it the same in every row"
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
        return Problem(
            "missing_column", row.file, row.number, f"no column '{shown(columns.label)}'"
        )
    if isinstance(text, Problem):
        return text
    label = _label(row.values[columns.label])
    if label is None:
        found = f"column '{shown(columns.label)}' holds {_described(row.values[columns.label])}"
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
    if isinstance(value, int | LongInteger):
        return str(value)
    return value.strip() if isinstance(value, str) and not is_blank(value) else None


def _described(value: object) -> str:
    """For a message; what holds others may hold any number of them."""
    return kind_of(value) if isinstance(value, dict | list) else shown(repr(value))


def class_names(examples: Iterable[Example]) -> tuple[str, ...]:
    """The classes of the training documents in the order of label ids. Raises `DataError` for fewer
    than two.
    """
    labels = label_order(example.stratum for example in examples)
    if len(labels) < 2:
        raise DataError(
            f"data: train has only the label '{shown(labels[0])}'; a classification task needs "
            "at least two labels (check data.columns.label)"
        )
    return labels


def without_lookalike_labels(splits: Splits) -> tuple[Splits, list[Problem]]:
    """Documents without those whose label looks like that of more documents but is written in
    another way: one class to whoever wrote it, two to a program.
    """
    counts = Counter(example.stratum for examples in splits.values() for example in examples)
    forms: dict[str, list[str]] = {}
    for label in counts:
        forms.setdefault(plain(label), []).append(label)
    usual = {
        label: max(alike, key=lambda each: counts[each])
        for alike in forms.values()
        for label in alike
    }
    if all(label == usual[label] for label in usual):
        return splits, []
    first = {
        example.stratum: place_of(example)
        for examples in splits.values()
        for example in reversed(examples)
    }
    kept = {
        split: [example for example in examples if usual[example.stratum] == example.stratum]
        for split, examples in splits.items()
    }
    problems = [
        _lookalike(example, usual[example.stratum], first)
        for examples in splits.values()
        for example in examples
        if usual[example.stratum] != example.stratum
    ]
    return kept, problems


def _lookalike(example: Example, usual: str, first: Mapping[str, str]) -> Problem:
    found = (
        f"label '{shown_exactly(example.stratum)}' looks like label '{shown_exactly(usual)}' of "
        f"{first[usual]}, but is written in other characters"
    )
    return Problem("lookalike_label", example.file, example.row, found, LOOKALIKE_FIX)


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
                f"label '{shown(example.stratum)}' is not in train",
                STRANGER_FIX,
            )
            for example in splits[split]
            if example.stratum not in known
        ]
    return kept, problems


def labelled_documents(
    examples: Sequence[Example],
    labels: Sequence[str],
    encode_texts: Callable[[Sequence[str]], Iterator[list[Encoded]]],
) -> Iterator[list[TokenizedDocument]]:
    """Rows of the cache of labelled texts, in the lists that their texts are encoded in."""
    documents = cast("Sequence[LabelledText]", examples)
    label_ids, done = {label: label_id for label_id, label in enumerate(labels)}, 0
    for chunk in encode_texts([document.text for document in documents]):
        members = documents[done : done + len(chunk)]
        done += len(chunk)
        yield [
            TokenizedDocument(
                document.id,
                {"label_id": label_ids[document.label]},
                encoded.input_ids,
                encoded.full_length,
            )
            for document, encoded in zip(members, chunk, strict=True)
        ]
