"""From rows to examples that can be trained on, with every other row named.

A problem is one row, its reason and its place; whether problems stop the preparation or are dropped
and counted is decided once, in `resolve`. What makes a whole source unusable (no such column, an
empty split) always stops it. What a document is, the task says (components/tasks).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from components.data.columns import no_such_column
from components.data.documents import (
    Example,
    Problem,
    Row,
    SplitName,
    has_own_id,
    numbered_id,
    place_of,
)
from components.data.lookalikes import is_blank, shown
from components.errors import DataError

NAMED_PROBLEMS = 3
LONGEST_NUMBER = 1000
"""Digits of a label or an id that is compared as a number; Python refuses more than 4,300."""
DROP_ADVICE = ", or drop such rows with --set data.on_invalid=drop"
KEEPING_ORDER: tuple[SplitName, ...] = ("test", "validation", "train")


Splits = dict[SplitName, list[Example]]
Check = Callable[[Splits], tuple[Splits, list[Problem]]]
"""What a task checks between rows: the examples that are left, and those that are not."""


@dataclass(slots=True)
class Loaded:
    """Examples of the splits that the source has, and the rows that could not be used."""

    splits: Splits
    problems: list[Problem] = field(default_factory=list)


def examples_of(
    rows: Iterable[Row | Problem],
    make: Callable[[Row], Example | Problem],
    needed: Mapping[str, str],
) -> tuple[list[Example], list[Problem]]:
    """Checks each row on its own by `make`. Raises `DataError` when no row at all has a needed
    column (setting below data.columns -> name of the column).
    """
    examples: list[Example] = []
    problems: list[Problem] = []
    present: dict[str, None] = {}
    file = ""
    for row in rows:
        if isinstance(row, Row):
            file = row.file
            present |= dict.fromkeys(row.columns)
        made = row if isinstance(row, Problem) else make(row)
        if isinstance(made, Problem):
            problems.append(made)
        else:
            examples.append(made)
    for setting, column in needed.items():
        if present and column not in present:
            raise DataError(no_such_column(file, setting, column, list(present)))
    return examples, problems


def text_of(row: Row, column: str) -> str | Problem:
    """The text in a column, or what is wrong about it."""
    if column not in row.values:
        return Problem("missing_column", row.file, row.number, f"no column '{shown(column)}'")
    text = row.values[column]
    if text is None or (isinstance(text, str) and is_blank(text)):
        return Problem("empty_text", row.file, row.number, f"column '{shown(column)}' is empty")
    if not isinstance(text, str):
        found = f"column '{shown(column)}' holds {kind_of(text)}, not text"
        fix = "give a text, or map the right column with data.columns.text"
        return Problem("broken_row", row.file, row.number, found, fix)
    return text


def kind_of(value: object) -> str:
    """What kind of value it is, for a message."""
    return "an object" if isinstance(value, dict) else type(value).__name__


def id_of(row: Row, column: str | None) -> str:
    """The id in a column, or one made from file name and row number where there is none."""
    given = row.values.get(column) if column is not None else None
    is_missing = given is None or given != given
    return numbered_id(row.file, row.number) if is_missing else str(given)


def encoding_fault(row: Row, values: Mapping[str, str]) -> Problem | None:
    """The first column whose value cannot be written as UTF-8."""
    for column, value in values.items():
        fault = not_utf8(value)
        if fault is not None:
            found = f"column '{shown(column)}' has {fault}"
            return Problem("bad_encoding", row.file, row.number, found)
    return None


def not_utf8(text: str) -> str | None:
    """What of the text cannot be written as UTF-8: half characters, of which some stand for bytes
    that could not be decoded.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = text[error.start]
        escape = ascii(half)[1:-1]
        if "\udc80" <= half <= "\udcff":
            return f"bytes that are not UTF-8 (0x{ord(half) - 0xDC00:02x}, or the escape {escape})"
        return f"half a character, the escape {escape} without its other half"
    return None


def text_key(text: str) -> bytes:
    """Equal for texts that differ in white space only."""
    return hashlib.sha256(" ".join(text.split()).encode("utf-8")).digest()


def label_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Sorted; numerically where every label is an integer."""
    distinct = set(labels)
    numbers = all(_is_number(label) for label in distinct)
    return tuple(
        sorted(
            distinct,
            key=(lambda label: (int(label), label)) if numbers else (lambda label: (0, label)),
        )
    )


def _is_number(label: str) -> bool:
    """Whether it is an integer that Python takes as one."""
    return len(label) <= LONGEST_NUMBER and label.removeprefix("-").isdecimal()


def check_between_rows(loaded: Loaded, checks: Sequence[Check] = ()) -> Loaded:
    """Finds duplicate ids, documents in two splits, and what the task's own `checks` find. Of a
    shared document the copy in test is kept, else the one in validation.
    """
    problems = list(loaded.problems)
    splits = dict(loaded.splits)
    for check in (_without_duplicate_ids, _without_shared, *checks):
        splits, found = check(splits)
        problems += found
    return Loaded(splits, problems)


def _without_duplicate_ids(splits: Splits) -> tuple[Splits, list[Problem]]:
    kept: Splits = {}
    problems: list[Problem] = []
    for split, documents in splits.items():
        first: dict[str, Example] = {}
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
                        f"id '{shown(document.id)}' is also in row {twin.row}",
                    )
                )
    return kept, problems


def _without_shared(splits: Splits) -> tuple[Splits, list[Problem]]:
    kept: Splits = {}
    problems: list[Problem] = []
    by_text: dict[bytes, Example] = {}
    by_id: dict[str, Example] = {}
    numbered = all(_is_row_counter(documents) for documents in splits.values())
    for split in KEEPING_ORDER:
        if split not in splits:
            continue
        kept[split] = []
        for document in splits[split]:
            same_text = by_text.get(text_key(document.content))
            twin = same_text or (
                by_id.get(document.id) if has_own_id(document) and not numbered else None
            )
            if twin is None:
                kept[split].append(document)
            else:
                found = (
                    f"same {'text' if same_text else 'id'} as {place_of(twin)} (that copy is kept)"
                )
                problems.append(Problem("shared_document", document.file, document.row, found))
        by_text |= {text_key(document.content): document for document in kept[split]}
        by_id |= {document.id: document for document in kept[split] if has_own_id(document)}
    return {split: kept[split] for split in splits}, problems


def _is_row_counter(documents: Sequence[Example]) -> bool:
    """Ids that only number the rows of a split say nothing about other splits: whole numbers that
    grow from row to row, with gaps where rows were left out.
    """
    ids = [document.id for document in documents]
    return all(_is_number(each) and each.isdecimal() for each in ids) and all(
        int(before) < int(after) for before, after in pairwise(ids)
    )


def resolve(loaded: Loaded, on_invalid: Literal["fail", "drop"]) -> Counter[str]:
    """Counts problems by reason (`drop`), or raises `DataError` that names the first rows (`fail`)
    or a split that is left without any.
    """
    counts = Counter(str(problem.reason) for problem in loaded.problems)
    if loaded.problems and on_invalid == "fail":
        some_left = all(loaded.splits.values())
        raise DataError(_summary(loaded.problems, counts) + (DROP_ADVICE if some_left else ""))
    for split, documents in loaded.splits.items():
        if not documents:
            raise DataError(
                f"data: no valid document left for {split} "
                f"({_summary(loaded.problems, counts) if counts else 'the source is empty'})"
            )
    return counts


def one_of_each_reason(problems: Sequence[Problem]) -> list[Problem]:
    """The first problem of every reason, then the second of every reason, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for problem in problems:
        turns.append(seen[problem.reason])
        seen[problem.reason] += 1
    return [
        problem
        for _, problem in sorted(zip(turns, problems, strict=True), key=lambda pair: pair[0])
    ]


def _summary(problems: Sequence[Problem], counts: Counter[str]) -> str:
    most = max(NAMED_PROBLEMS, len(counts))
    named = " | ".join(str(problem) for problem in one_of_each_reason(problems)[:most])
    rows = "1 invalid row" if len(problems) == 1 else f"{len(problems)} invalid rows"
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
    return f"{rows} ({reasons}): {named}{' | ...' if len(problems) > most else ''}. Mend the data"
