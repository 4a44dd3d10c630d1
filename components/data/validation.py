"""From rows to documents that can be trained on, with every other row named.

A problem is one row, its reason and its place; whether problems stop the preparation or are dropped
and counted is decided once, in `resolve`. What makes a whole source unusable (no such column, fewer
than two labels, an empty split) always stops it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import pairwise
from typing import Literal

from components.config.schema import ColumnsConfig
from components.data.documents import Document, Problem, Reason, Row, SplitName, numbered_id
from components.errors import DataError

NAMED_PROBLEMS = 3
KEEPING_ORDER: tuple[SplitName, ...] = ("test", "validation", "train")


@dataclass(slots=True)
class Loaded:
    """What a source gives: documents of the splits it has, and the rows it could not use."""

    splits: dict[SplitName, list[Document]]
    problems: list[Problem] = field(default_factory=list)


def documents_of(
    rows: Iterable[Row | Problem], columns: ColumnsConfig
) -> tuple[list[Document], list[Problem]]:
    """Checks each row on its own. Raises `DataError` when no row at all has a mapped column."""
    documents: list[Document] = []
    problems: list[Problem] = []
    present: dict[str, None] = {}
    file = ""
    for row in rows:
        if isinstance(row, Row):
            file = row.file
            present |= dict.fromkeys(row.values)
        made = row if isinstance(row, Problem) else _document(row, columns)
        if isinstance(made, Document):
            documents.append(made)
        else:
            problems.append(made)
    for setting in ("text", "label"):
        column = getattr(columns, setting)
        if present and column not in present:
            raise DataError(_no_such_column(file, setting, column, list(present)))
    return documents, problems


def _no_such_column(file: str, setting: str, column: str, present: Sequence[str]) -> str:
    near = get_close_matches(column, present, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    separator = next(
        (mark for mark in (";", "\t", "|") if len(present) == 1 and mark in present[0]), None
    )
    if separator is not None:
        return f"{file}: the columns are separated by {separator!r}; write the file with commas"
    return (
        f"{file} row 1: no column '{column}'; the columns are {', '.join(present)}.{hint} Map it "
        f"with --set data.columns.{setting}=..."
    )


def _document(row: Row, columns: ColumnsConfig) -> Document | Problem:
    def problem(reason: Reason, found: str) -> Problem:
        return Problem(reason, row.file, row.number, found)

    for column in (columns.text, columns.label):
        if column not in row.values:
            return problem("missing_column", f"no column '{column}'")
    text, label = row.values[columns.text], _label(row.values[columns.label])
    if text is None or (isinstance(text, str) and not text.strip()):
        return problem("empty_text", f"column '{columns.text}' is empty")
    if not isinstance(text, str):
        return problem(
            "broken_row", f"column '{columns.text}' holds {type(text).__name__}, not text"
        )
    if label is None:
        return problem(
            "unknown_label", f"column '{columns.label}' holds {row.values[columns.label]!r}"
        )
    given = row.values.get(columns.id) if columns.id is not None else None
    document = Document(
        numbered_id(row.file, row.number) if given is None else str(given),
        text,
        label,
        row.file,
        row.number,
    )
    values = {columns.text: text, columns.label: label, columns.id or "id": document.id}
    for column, value in values.items():
        if not is_utf8(value):
            return problem("bad_encoding", f"column '{column}' has bytes that are not UTF-8")
    return document


def _label(value: object) -> str | None:
    """Text and integers as text, so that 1 in Parquet and "1" in CSV are one label; true and false
    as JSON writes them.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def is_utf8(text: str) -> bool:
    """Whether the text can be written as UTF-8: lone surrogates stand for bytes that were not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def text_key(text: str) -> bytes:
    """Equal for texts that differ in white space only."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8")).digest()


def label_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Sorted; numerically where every label is an integer."""
    distinct = set(labels)
    numbers = all(label.removeprefix("-").isdecimal() for label in distinct)
    return tuple(
        sorted(
            distinct,
            key=(lambda label: (int(label), label)) if numbers else (lambda label: (0, label)),
        )
    )


def class_names(documents: Iterable[Document]) -> tuple[str, ...]:
    """The classes of the training documents in the order of label ids. Raises `DataError` for fewer
    than two.
    """
    labels = label_order(document.label for document in documents)
    if len(labels) < 2:
        raise DataError(
            f"data: train has only the label '{labels[0]}'; a classification task needs at least "
            "two labels (check data.columns.label)"
        )
    return labels


def check_between_rows(loaded: Loaded) -> Loaded:
    """Finds duplicate ids, documents in two splits, and labels that train lacks. Of a shared
    document the copy in test is kept, else the one in validation.
    """
    problems = list(loaded.problems)
    splits = dict(loaded.splits)
    for check in (_without_duplicate_ids, _without_shared, _without_labels_unknown_to_train):
        splits, found = check(splits)
        problems += found
    return Loaded(splits, problems)


Splits = dict[SplitName, list[Document]]


def _without_duplicate_ids(splits: Splits) -> tuple[Splits, list[Problem]]:
    kept: Splits = {}
    problems: list[Problem] = []
    for split, documents in splits.items():
        first: dict[str, Document] = {}
        kept[split] = []
        for document in documents:
            twin = first.setdefault(document.id, document)
            if twin is document:
                kept[split].append(document)
            else:
                problems.append(
                    Problem(
                        "duplicate_id",
                        document.file,
                        document.row,
                        f"id '{document.id}' is also in row {twin.row}",
                    )
                )
    return kept, problems


def _without_shared(splits: Splits) -> tuple[Splits, list[Problem]]:
    kept: Splits = {}
    problems: list[Problem] = []
    by_text: dict[bytes, Document] = {}
    by_id: dict[str, Document] = {}
    numbered = all(_is_row_counter(documents) for documents in splits.values())
    for split in KEEPING_ORDER:
        if split not in splits:
            continue
        kept[split] = []
        for document in splits[split]:
            same_text = by_text.get(text_key(document.text))
            twin = same_text or (
                by_id.get(document.id) if document.has_own_id and not numbered else None
            )
            if twin is None:
                kept[split].append(document)
            else:
                found = f"same {'text' if same_text else 'id'} as {twin.place} (that copy is kept)"
                problems.append(Problem("shared_document", document.file, document.row, found))
        by_text |= {text_key(document.text): document for document in kept[split]}
        by_id |= {document.id: document for document in kept[split] if document.has_own_id}
    return {split: kept[split] for split in splits}, problems


def _is_row_counter(documents: Sequence[Document]) -> bool:
    """Ids that only number the rows of a split say nothing about other splits: whole numbers that
    grow from row to row, with gaps where rows were left out.
    """
    ids = [document.id for document in documents]
    return all(each.isdecimal() for each in ids) and all(
        int(before) < int(after) for before, after in pairwise(ids)
    )


def _without_labels_unknown_to_train(splits: Splits) -> tuple[Splits, list[Problem]]:
    known = {document.label for document in splits["train"]}
    kept: Splits = {"train": splits["train"]}
    problems: list[Problem] = []
    reasons: tuple[tuple[SplitName, Reason], ...] = (
        ("validation", "label_only_in_validation"),
        ("test", "label_only_in_test"),
    )
    for split, reason in reasons:
        if split not in splits:
            continue
        kept[split] = [document for document in splits[split] if document.label in known]
        strangers = (document for document in splits[split] if document.label not in known)
        problems += [
            Problem(reason, each.file, each.row, f"label '{each.label}' is not in train")
            for each in strangers
        ]
    return kept, problems


def resolve(loaded: Loaded, on_invalid: Literal["fail", "drop"]) -> Counter[str]:
    """Counts problems by reason (`drop`), or raises `DataError` that names the first rows (`fail`)
    or a split that is left without any.
    """
    counts = Counter(str(problem.reason) for problem in loaded.problems)
    if loaded.problems and on_invalid == "fail":
        raise DataError(_summary(loaded.problems, counts))
    for split, documents in loaded.splits.items():
        if not documents:
            raise DataError(
                f"data: no valid document left for {split} "
                f"({_summary(loaded.problems, counts) if counts else 'the source is empty'})"
            )
    return counts


def telling(problems: Sequence[Problem]) -> list[Problem]:
    """The first problem of every reason, then the second of every reason, and so on."""
    seen: Counter[Reason] = Counter()
    turns = []
    for problem in problems:
        turns.append(seen[problem.reason])
        seen[problem.reason] += 1
    return [
        problem
        for _, problem in sorted(zip(turns, problems, strict=True), key=lambda pair: pair[0])
    ]


def _summary(problems: Sequence[Problem], counts: Counter[str]) -> str:
    shown = max(NAMED_PROBLEMS, len(counts))
    named = " | ".join(str(problem) for problem in telling(problems)[:shown])
    rows = "1 invalid row" if len(problems) == 1 else f"{len(problems)} invalid rows"
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return (
        f"{rows} ({reasons}): {named}{' | ...' if len(problems) > shown else ''}. Mend the data, "
        "or drop such rows with --set data.on_invalid=drop"
    )
