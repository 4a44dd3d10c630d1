"""From a data configuration to tokenised splits in the cache, once, whoever asks first.

The folder's name is a key of settings and source state, so that a second call reads nothing but the
description; the fingerprint inside is of the content. The key trusts size and modification time of
files: a file changed in place with both kept is not noticed.
"""

import hashlib
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from components.atomic_folder import atomic_folder
from components.data.carving import complete_splits
from components.data.documents import Example, Problem, Row, SplitName
from components.data.prepared import (
    DESCRIPTION,
    FORMAT,
    DamagedCache,
    DataReport,
    OlderCache,
    PreparedData,
    SplitReport,
    TokenizedDocument,
    open_prepared,
    write_description,
    write_split,
)
from components.data.settings import ColumnsConfig, DataConfig, default_task
from components.data.sources import source_of
from components.data.tokenization import has_tokens
from components.data.validation import (
    Check,
    Loaded,
    check_between_rows,
    one_of_each_reason,
    resolve,
    text_key,
)
from components.settings import writing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAMED_DROPPED = 20
LATER: Mapping[str, object] = {
    "letters": None,
    "template": None,
    "label_words": None,
    "chat": False,
    "max_new_tokens": 128,
    "columns.prompt": "prompt",
    "columns.completion": "completion",
    "columns.messages": "messages",
}
"""Setting that came after the first release -> its default, with which it is in no cache's key."""


class Preparing(Protocol):
    """What preparation asks of a task (components/tasks/task.py says more about each)."""

    @property
    def columns(self) -> Mapping[str, str]: ...

    @property
    def chunked(self) -> bool: ...

    @property
    def checks(self) -> tuple[Check, ...]: ...

    def examples(
        self, rows: Iterable[Row | Problem], columns: ColumnsConfig
    ) -> tuple[list[Example], list[Problem]]: ...

    def fitting(
        self, loaded: Loaded, tokenizer: "PreTrainedTokenizerBase", config: DataConfig
    ) -> Loaded: ...

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]: ...

    def tokenized(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: "PreTrainedTokenizerBase",
        config: DataConfig,
    ) -> Iterator[list[TokenizedDocument]]: ...

    def cutting(self, config: DataConfig) -> Mapping[str, object]: ...


def prepare(
    config: DataConfig,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    task: Preparing,
    tokenizer_id: str,
    cache_path: Path,
) -> PreparedData:
    """Validated, tokenised documents from the cache, made now if they are not there; components/
    tasks offers it with the task that the settings name.

    `tokenizer_id` identifies the tokenizer's content (a hash of its files). Two processes may call
    at once: one makes, the other waits. A damaged cache is made anew, with a warning; so is one of
    an earlier version that kept no full lengths. Raises `DataError` for documents that cannot be
    used, naming file, row and fix, and `ConfigError` for a tokenizer or max_tokens that cannot
    work.
    """
    from filelock import FileLock

    started = time.perf_counter()
    folder = cache_path / cache_key(config, tokenizer_id)
    prepared = _found(folder)
    cached = prepared is not None
    if prepared is None:
        with writing(cache_path, "cluster.cache_path"), FileLock(f"{folder}.lock"):
            prepared = _found(folder)
            cached = prepared is not None
            if prepared is None:
                _make(config, tokenizer, task=task, tokenizer_id=tokenizer_id, folder=folder)
                prepared = open_prepared(folder)
    return replace(
        prepared,
        report=replace(prepared.report, seconds=time.perf_counter() - started, cached=cached),
    )


def _found(folder: Path) -> PreparedData | None:
    """What is in the cache; None where nothing is, or what is there is damaged or of before."""
    if not (folder / DESCRIPTION).is_file():
        return None
    try:
        return open_prepared(folder)
    except OlderCache:
        return None
    except DamagedCache as error:
        warnings.warn(f"{error} It is made anew now.", RuntimeWarning, stacklevel=3)
        return None


def cache_key(config: DataConfig, tokenizer_id: str) -> str:
    """Name of the folder that holds these documents under this tokenizer."""
    settings = config.model_dump(mode="json", exclude={"files", "hub", "qangaroo"})
    if config.task == default_task(config.model_dump()):
        del settings["task"]  # a later setting: caches that were made before it are found
    for name, default in LATER.items():
        *sections, last = name.split(".")
        section = settings[sections[0]] if sections else settings
        if section[last] == default:
            del section[last]  # likewise
    content = {
        "format": FORMAT,
        "settings": settings,
        "source": source_of(config).state(config),
        "tokenizer": tokenizer_id,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _make(
    config: DataConfig,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    task: Preparing,
    tokenizer_id: str,
    folder: Path,
) -> None:
    splits, dropped, problems = _examples(config, tokenizer, task)
    labels = task.labels(splits["train"])
    reports = {}
    with atomic_folder(folder, checksums=True) as unfinished:
        for split, examples in splits.items():
            lengths: list[tuple[int, int]] = []
            rows = _counted(task.tokenized(examples, labels, tokenizer, config), lengths)
            write_split(unfinished, split, rows, columns=task.columns, chunked=task.chunked)
            reports[str(split)] = _split_report(examples, labels, lengths)
        named = one_of_each_reason(problems)[:NAMED_DROPPED]
        first_dropped = tuple(str(problem) for problem in named)
        report = DataReport(reports, dict(dropped), first_dropped, seconds=0.0, cached=False)
        settings = [FORMAT, list(labels), tokenizer_id, config.max_tokens]
        fingerprint = _fingerprint(splits, [*settings, *task.cutting(config).values()])
        write_description(unfinished, labels, fingerprint, report)


def split_examples(
    config: DataConfig, tokenizer: "PreTrainedTokenizerBase", *, task: Preparing
) -> dict[SplitName, list[Example]]:
    """The examples of every split with their texts, which `prepare` does not store: the same ones
    in the same order. Read anew; raises as `prepare` does.
    """
    return _examples(config, tokenizer, task)[0]


def _examples(
    config: DataConfig, tokenizer: "PreTrainedTokenizerBase", task: Preparing
) -> tuple[dict[SplitName, list[Example]], Mapping[str, int], list[Problem]]:
    """The examples of every split; how many rows were left out, by reason; and which."""
    read = task.fitting(_read(config, tokenizer, task), tokenizer, config)
    loaded = check_between_rows(read, task.checks)
    dropped = resolve(loaded, config.on_invalid)
    task.labels(loaded.splits["train"])
    return complete_splits(loaded, config), dropped, loaded.problems


def _read(config: DataConfig, tokenizer: "PreTrainedTokenizerBase", task: Preparing) -> Loaded:
    source, loaded = source_of(config), Loaded({})
    for split, rows in source.read(config, has_tokens(tokenizer)).items():
        loaded.splits[split], problems = task.examples(rows, source.columns(config))
        loaded.problems += problems
    return loaded


def _counted(
    chunks: Iterable[list[TokenizedDocument]], lengths: list[tuple[int, int]]
) -> Iterator[list[TokenizedDocument]]:
    """The same rows; fills `lengths` with (tokens kept, tokens in full) on the way."""
    for chunk in chunks:
        lengths += [(len(document.input_ids), document.full_length) for document in chunk]
        yield chunk


def _split_report(
    documents: Sequence[Example], labels: Sequence[str], lengths: Sequence[tuple[int, int]]
) -> SplitReport:
    length_N, full_N = np.asarray(lengths).T
    counts = Counter(document.stratum for document in documents)
    return SplitReport(
        documents=len(documents),
        labels={label: counts[label] for label in labels},
        repeated=len(documents) - len({text_key(document.content) for document in documents}),
        tokens=int(length_N.sum()),
        median_tokens=int(np.median(length_N)),
        p95_tokens=int(np.percentile(length_N, 95)),
        truncated=int((full_N > length_N).sum()),
        share_of_tokens_cut=float(1.0 - length_N.sum() / full_N.sum()),
    )


def _fingerprint(splits: Mapping[SplitName, list[Example]], settings: Sequence[object]) -> str:
    digest = hashlib.sha256(json.dumps(settings).encode())
    for split, examples in splits.items():
        for example in examples:
            content = [split, example.id, example.target, example.content]
            digest.update(json.dumps(content).encode())
    return digest.hexdigest()
