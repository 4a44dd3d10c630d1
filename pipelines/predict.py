"""Answers for a file of documents, by registered adapters or adapter folders.

The answers equal those of `mlflow.pyfunc.load_model(...).predict(...)` on the same documents, bit
for bit: both go through the same Classifier, in the same chunks. Several adapters of one backbone
answer as each of them does alone, from one reading of a document where they allow it.
"""

import gzip
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from components.errors import ConfigError, DataError
from components.inference.classifier import BATCH_SIZE, CHUNK_DOCUMENTS, load_classifier
from components.inference.several import Several
from components.registry.adapter_source import AdapterSource, adapter_source
from components.settings import writing
from components.tasks import Task, stored_task
from pipelines.reports import PredictionReport, PredictionsReport


@dataclass(frozen=True)
class Asked:
    """What adapters are asked and where their answers go. `text_column`, `id_column`: of a table of
    documents; `backbone`: a folder, hub id or installed model in place of the one that they name.
    """

    input: Path
    output: Path
    text_column: str = "text"
    id_column: str = "id"
    batch_size: int = BATCH_SIZE
    cache_path: Path | None = None
    backbone: str | None = None


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
    asked = Asked(input, output, text_column, id_column, batch_size, cache_path, backbone)
    found = _answer([model], asked, tracking_uri=tracking_uri, on_progress=on_progress)
    ((address, labels),) = found.labels.items()
    return PredictionReport(address, output, found.documents, labels, time.perf_counter() - started)


def predict_several(
    models: Sequence[str],
    asked: Asked,
    *,
    tracking_uri: str | None,
    on_progress: Callable[[int], None] | None = None,
) -> PredictionsReport:
    """As `predict`, by several adapters of one task on one backbone: one line {"id", "models"} for
    each document, with each adapter's answer under its address. Raises ConfigError too where they
    are not of one task and backbone, or one is named twice.
    """
    started = time.perf_counter()
    found = _answer(models, asked, tracking_uri=tracking_uri, on_progress=on_progress)
    return PredictionsReport(
        asked.output, found.documents, found.labels, found.passes, time.perf_counter() - started
    )


@dataclass
class _Found:
    """Documents answered, each adapter's labels counted, and the readings of a document."""

    documents: int
    labels: dict[str, dict[str, int]]
    passes: tuple[tuple[str, ...], ...]


def _answer(
    models: Sequence[str],
    asked: Asked,
    *,
    tracking_uri: str | None,
    on_progress: Callable[[int], None] | None,
) -> _Found:
    """Write a line for each document: its id, and its answer or that of each adapter."""
    _check_output(asked.output)
    _check_input(asked.input)
    with (
        _live(models, asked, tracking_uri=tracking_uri) as several,
        writing(asked.output.parent, "output"),
        _atomic_text(asked.output) as file,
    ):
        labels = {name: dict.fromkeys(of.labels, 0) for name, of in several.named.items()}
        found = _Found(0, labels, several.passes())
        rows = _rows(next(iter(several.named.values())).task, asked)
        while chunk := list(islice(rows, CHUNK_DOCUMENTS)):
            answers = several.answers([each for _, each in chunk], batch_size=asked.batch_size)
            for (identity, _), by_model in zip(chunk, answers, strict=True):
                for name, answer in by_model.items():
                    if "label" in answer:
                        label = answer["label"]  # of a question a candidate, in no list
                        labels[name][label] = labels[name].get(label, 0) + 1
                columns = {"models": by_model} if len(labels) > 1 else by_model.popitem()[1]
                file.write(_line({"id": identity, **columns}) + "\n")
            found.documents += len(chunk)
            if on_progress is not None:
                on_progress(found.documents)
    return found


@contextmanager
def _live(models: Sequence[str], asked: Asked, *, tracking_uri: str | None) -> Iterator[Several]:
    """The adapters by their addresses, loaded after all that is cheap to check."""
    with ExitStack() as stack:
        sources: dict[str, AdapterSource] = {}
        for model in models:
            source = stack.enter_context(adapter_source(model, tracking_uri=tracking_uri))
            address = source.address(model)
            if address in sources:
                raise ConfigError(f"model: '{address}' is named twice. Name it once.")
            sources[address] = source
        for source in sources.values():
            next(_rows(_task(source.folder, asked.input), asked), None)
        yield Several(
            {
                address: load_classifier(
                    source.folder,
                    cache_path=asked.cache_path,
                    backbone=asked.backbone,
                    trusted=source.registered,
                )
                for address, source in sources.items()
            }
        )


def _rows(task: Task, asked: Asked) -> Iterator[tuple[str, Any]]:
    return task.inputs(asked.input, text_column=asked.text_column, id_column=asked.id_column)


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
