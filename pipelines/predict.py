"""Answers for a file of documents, by a registered adapter or an adapter folder.

The answers equal those of `mlflow.pyfunc.load_model(...).predict(...)` on the same documents, bit
for bit: both go through the same Classifier, in the same chunks.
"""

import gzip
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from components.data import qangaroo
from components.data.documents import Question, Row
from components.data.files import read_rows
from components.errors import ConfigError, DataError
from components.inference.classifier import BATCH_SIZE, CHUNK_DOCUMENTS, load_classifier
from components.registry.adapter_source import adapter_source
from pipelines.reports import PredictionReport

if TYPE_CHECKING:
    from components.inference.classifier import Classifier


def predict(
    model: str,
    *,
    input: Path,
    output: Path,
    tracking_uri: str | None,
    text_column: str = "text",
    id_column: str = "id",
    batch_size: int = BATCH_SIZE,
    cache_path: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> PredictionReport:
    """Answer every document of `input` (.jsonl, .csv, both also .gz, or .parquet) in `output`
    (.jsonl or .jsonl.gz), one line {"id", "label", "probabilities"} each, in order.

    An adapter for multiple choice takes questions in their own form (.json, .json.gz: one list of
    records, the answer may be missing); `label` is then the chosen candidate. The output appears
    whole or not at all. A document without an id is named <file>:<row>. `on_progress` is given the
    number of documents answered so far. Raises DataError (file, row and fix), ConfigError,
    RegistryError, ClusterError, ArtifactError or BackboneError; an unreadable input is found before
    the model is loaded.
    """
    started = time.perf_counter()
    _check_output(output)
    next(_items(input, text_column, id_column), None)
    with adapter_source(model, tracking_uri=tracking_uri) as source, _atomic_text(output) as file:
        classifier = load_classifier(source.folder, cache_path=cache_path)
        _check_task(classifier, input)
        items, labels = (
            _items(input, text_column, id_column),
            Counter(dict.fromkeys(classifier.labels, 0)),
        )
        while chunk := list(islice(items, CHUNK_DOCUMENTS)):
            for (identity, _), answer in zip(
                chunk, _answers(classifier, [item for _, item in chunk], batch_size), strict=True
            ):
                file.write(json.dumps({"id": identity, **answer}, ensure_ascii=False) + "\n")
                labels[answer["label"]] += 1
            if on_progress is not None:
                on_progress(labels.total())
        address = source.address(model)
    return PredictionReport(
        address, output, labels.total(), dict(labels), time.perf_counter() - started
    )


def _check_output(output: Path) -> None:
    if not output.name.endswith((".jsonl", ".jsonl.gz")):
        raise ConfigError(f"output: '{output}' must end in .jsonl or .jsonl.gz.")
    if not output.parent.is_dir():
        raise ConfigError(f"output: the folder '{output.parent}' does not exist. Make it first.")


def _check_task(classifier: "Classifier", input: Path) -> None:
    if (classifier.task == "multiple_choice") != _holds_questions(input):
        kinds = {
            "classification": "documents (.jsonl, .csv or .parquet)",
            "multiple_choice": "questions (.json, .json.gz: query, candidates, supports)",
        }
        raise DataError(
            f"input: the adapter takes {kinds[classifier.task]}, not '{input.name}'. Give such a "
            "file."
        )


def _answers(
    classifier: "Classifier", items: list[Any], batch_size: int
) -> Iterator[dict[str, Any]]:
    if classifier.task == "multiple_choice":
        return classifier.question_answers(items, batch_size=batch_size)
    return classifier.answers(items, batch_size=batch_size)


def _holds_questions(input: Path) -> bool:
    return input.name.endswith(qangaroo.SUFFIXES)


def _items(input: Path, text_column: str, id_column: str) -> Iterator[tuple[str, Any]]:
    """(id, text or question) of every row; the first bad row raises."""
    return (
        _questions(input) if _holds_questions(input) else _documents(input, text_column, id_column)
    )


def _questions(input: Path) -> Iterator[tuple[str, Question]]:
    questions, problems = qangaroo.questions_of(qangaroo.rows(str(input), "input"), answered=False)
    if problems:
        raise DataError(str(problems[0]))
    for question in questions:
        yield question.id, question


def _documents(input: Path, text_column: str, id_column: str) -> Iterator[tuple[str, str]]:
    """(id, text) of every row; the first bad row raises."""
    if not input.is_file():
        raise DataError(
            f"input: no file '{input}'. Give the path of a .jsonl, .csv or .parquet file."
        )
    for row in read_rows(str(input), "input"):
        if not isinstance(row, Row):
            raise DataError(str(row))
        yield _identity(row, id_column), _text(row, text_column)


def _text(row: Row, column: str) -> str:
    place = f"{row.file} row {row.number}"
    if column not in row.values:
        raise DataError(
            f"{place}: no column '{column}'; the columns are {', '.join(row.values)}. Name the "
            "right one with --text-column."
        )
    text: Any = row.values[column]
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{place}: column '{column}' holds "
            f"{'no text' if not isinstance(text, str) else 'an empty text'}. Give it a text, or "
            "delete the row."
        )
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(
            f"{place}: column '{column}' has bytes that are not UTF-8. Save the text as UTF-8."
        )
    return text


def _identity(row: Row, column: str) -> str:
    given = row.values.get(column)
    return f"{Path(row.file).name}:{row.number}" if given is None else str(given)


@contextmanager
def _atomic_text(output: Path) -> Iterator[TextIO]:
    """Write into a hidden sibling that takes the name of `output` when the block ends without an
    error.
    """
    unfinished = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with (
            gzip.open(unfinished, "wt", encoding="utf-8")
            if output.name.endswith(".gz")
            else unfinished.open("w", encoding="utf-8") as file
        ):
            yield file
        os.replace(unfinished, output)
    finally:
        unfinished.unlink(missing_ok=True)
