"""Multiple-choice questions from files in the form of WikiHop's release (qangaroo): JSON that holds
one list of records.

    [{"id": "WH_train_0", "query": "country of citizenship someone", "answer": "france",
    "candidates": ["france", "spain"], "supports": ["A document.", "Another."]}, ...]

Other keys (annotations) are left alone. Rows count from 1: row 3 is the third record of the list.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from components.config.schema import DataConfig
from components.data.documents import (
    SPLITS,
    Document,
    Problem,
    Question,
    Reason,
    Row,
    SplitName,
    numbered_id,
)
from components.data.files import check_exists
from components.data.validation import Loaded, is_utf8
from components.errors import DataError

SUFFIXES = (".json", ".json.gz")
KEYS = ("query", "answer", "candidates", "supports")


def state(config: DataConfig) -> object:
    """Path, size and modification time of each file, and what is kept of a question."""
    assert config.qangaroo is not None
    found: dict[str, object] = {"max_chunks": config.qangaroo.max_chunks}
    for split, path in _paths(config).items():
        check_exists(path, f"data.qangaroo.{split}")
        status = Path(path).stat()
        found[split] = [str(Path(path).resolve()), status.st_size, status.st_mtime_ns]
    return found


def read(config: DataConfig, _: object) -> Loaded:
    """Every valid question, and every other row with what is wrong about it. Raises `DataError` for
    a file that is unreadable as a whole.
    """
    loaded = Loaded({})
    for split, path in _paths(config).items():
        questions, problems = questions_of(rows(path, f"data.qangaroo.{split}"))
        loaded.splits[split] = cast("list[Document]", questions)
        loaded.problems += problems
    return loaded


def _paths(config: DataConfig) -> dict[SplitName, str]:
    assert config.qangaroo is not None
    return {
        split: path for split in SPLITS if (path := getattr(config.qangaroo, split)) is not None
    }


def rows(path: str, config_path: str) -> Iterator[Row | Problem]:
    """The records of one file in order. Raises `DataError` where it is missing, no JSON, or no
    list.
    """
    if not path.endswith(SUFFIXES):
        raise DataError(
            f"{config_path}: cannot read '{path}': expected a name ending in "
            f"{' or '.join(SUFFIXES)}"
        )
    check_exists(path, config_path)
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb") as file:
            records = json.loads(file.read())
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: not readable as JSON ({error}); give the data set's own file"
        ) from error
    if not isinstance(records, list):
        raise DataError(
            f"{path}: holds {type(records).__name__}, expected one list of questions; give the "
            "data set's own file"
        )
    for number, record in enumerate(records, start=1):
        if isinstance(record, dict):
            yield Row(path, number, record)
        else:
            yield Problem(
                "broken_row", path, number, f"expected a JSON object, got {type(record).__name__}"
            )


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
        return Problem(wrong[0], row.file, row.number, wrong[1])
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
        text=hashlib.sha256(content.encode()).hexdigest(),
        label="",
        file=row.file,
        row=row.number,
        query=query,
        candidates=candidates,
        supports=supports,
        answer=answer,
    )


def _first_fault(values: Mapping[str, object], answered: bool) -> tuple[Reason, str] | None:
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
    if query is None or not query.strip():
        return "empty_text", "'query' is empty"
    texts = [query, *candidates, *supports, values.get("id") or ""]
    if not all(is_utf8(text) for text in texts):
        return "bad_encoding", "a text holds half a character (a lone surrogate)"
    if (
        len(candidates) < 2
        or not all(text.strip() for text in candidates)
        or len(set(candidates)) < len(candidates)
    ):
        empty, twice = (
            sum(not text.strip() for text in candidates),
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
    if not supports or not all(text.strip() for text in supports):
        return (
            "no_supports",
            f"{len(supports)} supports, {sum(not text.strip() for text in supports)} of them empty",
        )
    return None
