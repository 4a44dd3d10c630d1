"""Answers for a file of documents, by a registered adapter or an adapter folder.

The answers equal those of `mlflow.pyfunc.load_model(...).predict(...)` on the same documents, bit
for bit: both go through the same Classifier, in the same chunks.
"""

import gzip
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from components.errors import ConfigError, DataError
from components.inference.classifier import BATCH_SIZE, CHUNK_DOCUMENTS, load_classifier
from components.registry.adapter_source import adapter_source
from components.settings import writing
from components.tasks import Task, stored_task
from pipelines.reports import PredictionReport


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
    backbone: str | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> PredictionReport:
    """Answer every document of `input` (.jsonl, .csv, both also .gz, or .parquet) in `output`
    (.jsonl or .jsonl.gz), one line {"id", "label", "probabilities"} each, in order.

    An adapter of another task takes what its task says (questions of multiple choice in their own
    form, .json or .json.gz) and answers by the columns of its signature. The output appears whole
    or not at all. `backbone`: a folder, hub id or installed model in place of the one that the
    adapter names. A document without an id is named <file>:<row>. `on_progress` is given the number
    of documents answered so far. Raises DataError (file, row and fix), ConfigError, RegistryError,
    ClusterError, ArtifactError or BackboneError; an unreadable input is found before the model is
    loaded.
    """
    started = time.perf_counter()
    _check_output(output)
    _check_input(input)
    with (
        adapter_source(model, tracking_uri=tracking_uri) as source,
        writing(output.parent, "output"),
        _atomic_text(output) as file,
    ):
        task = _task(source.folder, input)
        next(task.inputs(input, text_column=text_column, id_column=id_column), None)
        classifier = load_classifier(
            source.folder, cache_path=cache_path, backbone=backbone, trusted=source.registered
        )
        rows = task.inputs(input, text_column=text_column, id_column=id_column)
        labels, done = Counter(dict.fromkeys(classifier.labels, 0)), 0
        while chunk := list(islice(rows, CHUNK_DOCUMENTS)):
            answers = classifier.answers([asked for _, asked in chunk], batch_size=batch_size)
            for (identity, _), answer in zip(chunk, answers, strict=True):
                file.write(_line({"id": identity, **answer}) + "\n")
                if "label" in answer:
                    labels[answer["label"]] += 1
            done += len(chunk)
            if on_progress is not None:
                on_progress(done)
        address = source.address(model)
    return PredictionReport(address, output, done, dict(labels), time.perf_counter() - started)


def _line(answer: Mapping[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False, allow_nan=False)


def _check_output(output: Path) -> None:
    if not output.name.endswith((".jsonl", ".jsonl.gz")):
        raise ConfigError(f"output: '{output}' must end in .jsonl or .jsonl.gz.")
    if not output.parent.is_dir():
        raise ConfigError(f"output: the folder '{output.parent}' does not exist. Make it first.")


def _check_input(input: Path) -> None:
    if not input.is_file():
        raise DataError(
            f"input: no file '{input}'. Give the path of a .jsonl, .csv or .parquet file."
        )


def _task(folder: Path, input: Path) -> Task:
    """The adapter's task. Raises DataError for a file that does not hold what it asks for."""
    from components.adapters import read_adapter_config

    task = stored_task(read_adapter_config(folder))
    if not input.name.lower().endswith(task.input_suffixes):
        raise DataError(
            f"input: the adapter takes {task.input_words}, not '{input.name}'. Give such a file."
        )
    return task


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
