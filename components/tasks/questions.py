"""Multiple-choice questions with supporting documents, which is what multiple choice learns from:
read from rows that hold query, candidates, supports, answer and, unless they are to be numbered,
id.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from components.data.documents import Problem, Row, numbered_id
from components.data.lookalikes import is_blank
from components.data.validation import not_utf8

KEYS = ("query", "answer", "candidates", "supports")
FIXES = {
    "missing_key": (
        "add it: a question has query, answer, candidates, supports and, unless it is to be "
        "numbered, id"
    ),
    "wrong_type": (
        "give texts for query, answer and id, and lists of texts for candidates and supports"
    ),
    "unusable_candidates": "give at least two candidates, each with a text and once only",
    "unknown_answer": "make the answer one of the candidates, letter for letter",
    "no_supports": "give at least one support, each with a text, or delete the question",
    "no_room": "raise data.max_tokens, or delete the question",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One valid question."""

    id: str
    file: str
    row: int
    content: str
    """Hash of query, candidates, supports and answer, white space aside."""
    query: str
    candidates: tuple[str, ...]
    supports: tuple[str, ...]
    answer: int
    """Index of the answer among the candidates."""

    @property
    def stratum(self) -> str:
        """One for all: the candidates differ from question to question."""
        return ""

    @property
    def target(self) -> str:
        """Nothing beside `content`, which holds the answer."""
        return ""


def questions_of(
    found: Iterable[Row | Problem], *, answered: bool = True
) -> tuple[list[Question], list[Problem]]:
    """Checks each row on its own. `answered`: whether each must name its answer; without it, the
    first candidate stands for an answer that is missing.
    """
    questions: list[Question] = []
    problems: list[Problem] = []
    for row in found:
        made = row if isinstance(row, Problem) else _question(row, answered)
        if isinstance(made, Problem):
            problems.append(made)
        else:
            questions.append(made)
    return questions, problems


def _question(row: Row, answered: bool) -> Question | Problem:
    wrong = _first_fault(row.values, answered)
    if wrong is not None:
        reason, found = wrong
        return Problem(reason, row.file, row.number, found, FIXES.get(reason, ""))
    values = cast("Mapping[str, Any]", row.values)
    query, candidates, supports = (
        values["query"],
        tuple(values["candidates"]),
        tuple(values["supports"]),
    )
    answer = candidates.index(values["answer"]) if "answer" in values else 0
    given = values.get("id")
    content = json.dumps(
        [" ".join(text.split()) for text in (query, candidates[answer], *candidates, *supports)]
    )
    return Question(
        id=numbered_id(row.file, row.number) if given is None else given,
        content=hashlib.sha256(content.encode()).hexdigest(),
        file=row.file,
        row=row.number,
        query=query,
        candidates=candidates,
        supports=supports,
        answer=answer,
    )


def _first_fault(values: Mapping[str, object], answered: bool) -> tuple[str, str] | None:
    for key in KEYS:
        if key not in values and (answered or key != "answer"):
            return "missing_key", f"no key '{key}'"
    for key in ("query", "answer", "id"):
        if values.get(key) is not None and not isinstance(values[key], str):
            return "wrong_type", f"'{key}' holds {type(values[key]).__name__}, not text"
    for key in ("candidates", "supports"):
        each = values[key]
        if not isinstance(each, list) or not all(isinstance(text, str) for text in each):
            return "wrong_type", f"'{key}' is no list of texts"
    query, candidates, supports = (
        cast("Any", values[key]) for key in ("query", "candidates", "supports")
    )
    if query is None or is_blank(query):
        return "empty_text", "'query' is empty"
    texts = [query, *candidates, *supports, values.get("id") or ""]
    fault = next((found for text in texts if (found := not_utf8(text))), None)
    if fault is not None:
        return "bad_encoding", f"a text holds {fault}"
    if (
        len(candidates) < 2
        or any(is_blank(text) for text in candidates)
        or len(set(candidates)) < len(candidates)
    ):
        empty, twice = (
            sum(is_blank(text) for text in candidates),
            len(candidates) - len(set(candidates)),
        )
        return (
            "unusable_candidates",
            f"{len(candidates)} candidates, {empty} of them empty and {twice} repeated",
        )
    if "answer" in values and values["answer"] not in candidates:
        return (
            "unknown_answer",
            f"the answer {values['answer']!r} is not among the {len(candidates)} candidates",
        )
    if not supports or any(is_blank(text) for text in supports):
        return (
            "no_supports",
            f"{len(supports)} supports, {sum(is_blank(text) for text in supports)} of them empty",
        )
    return None
