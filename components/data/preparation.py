"""From a data configuration to tokenised splits in the cache, once, whoever asks first.

The folder's name is a key of settings and source state, so that a second call reads nothing but the
description; the fingerprint inside is of the content. The key trusts size and modification time of
files: a file changed in place with both kept is not noticed.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.atomic_folder import atomic_folder
from components.config.schema import DataConfig
from components.data.carving import complete_splits
from components.data.documents import Document, SplitName
from components.data.prepared import (
    DESCRIPTION,
    FORMAT,
    DataReport,
    PreparedData,
    SplitReport,
    TokenizedDocument,
    open_prepared,
    write_description,
    write_split,
)
from components.data.sources import source_of
from components.data.tasks import TASKS
from components.data.tokenization import has_tokens
from components.data.validation import check_between_rows, resolve, telling, text_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAMED_DROPPED = 20


def prepare(
    config: DataConfig, tokenizer: "PreTrainedTokenizerBase", *, tokenizer_id: str, cache_path: Path
) -> PreparedData:
    """Validated, tokenised documents from the cache, made now if they are not there.

    `tokenizer_id` identifies the tokenizer's content (a hash of its files). Two processes may call
    at once: one makes, the other waits. Raises `DataError` for documents that cannot be used,
    naming file, row and fix, and `ConfigError` for a tokenizer or max_tokens that cannot work.
    """
    from filelock import FileLock

    started = time.perf_counter()
    folder = cache_path / _key(config, tokenizer_id)
    cached = (folder / DESCRIPTION).is_file()
    if not cached:
        cache_path.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            cached = (folder / DESCRIPTION).is_file()
            if not cached:
                _make(config, tokenizer, tokenizer_id, folder)
    prepared = open_prepared(folder)
    return replace(
        prepared,
        report=replace(prepared.report, seconds=time.perf_counter() - started, cached=cached),
    )


def _key(config: DataConfig, tokenizer_id: str) -> str:
    settings = config.model_dump(mode="json", exclude={"files", "hub", "qangaroo"})
    content = {
        "format": FORMAT,
        "settings": settings,
        "source": source_of(config).state(config),
        "tokenizer": tokenizer_id,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _make(
    config: DataConfig, tokenizer: "PreTrainedTokenizerBase", tokenizer_id: str, folder: Path
) -> None:
    task = TASKS[config.task]
    loaded = check_between_rows(
        task.fitting(source_of(config).read(config, has_tokens(tokenizer)), tokenizer, config)
    )
    dropped = resolve(loaded, config.on_invalid)
    task.labels(loaded.splits["train"])
    splits = complete_splits(loaded, config)
    labels = task.labels(splits["train"])
    reports = {}
    with atomic_folder(folder) as unfinished:
        for split, documents in splits.items():
            lengths: list[tuple[int, int]] = []
            rows = _counted(task.tokenized(documents, labels, tokenizer, config), lengths)
            write_split(unfinished, split, rows, chunked=config.task == "multiple_choice")
            reports[str(split)] = _split_report(documents, labels, lengths)
        first_dropped = tuple(str(problem) for problem in telling(loaded.problems)[:NAMED_DROPPED])
        report = DataReport(reports, dict(dropped), first_dropped, seconds=0.0, cached=False)
        write_description(
            unfinished, labels, _fingerprint(splits, labels, tokenizer_id, config), report
        )


def _counted(
    chunks: Iterable[list[TokenizedDocument]], lengths: list[tuple[int, int]]
) -> Iterator[list[TokenizedDocument]]:
    """The same rows; fills `lengths` with (tokens kept, tokens in full) on the way."""
    for chunk in chunks:
        lengths += [(len(document.input_ids), document.full_length) for document in chunk]
        yield chunk


def _split_report(
    documents: Sequence[Document], labels: Sequence[str], lengths: Sequence[tuple[int, int]]
) -> SplitReport:
    length_N, full_N = np.asarray(lengths).T
    counts = Counter(document.label for document in documents)
    return SplitReport(
        documents=len(documents),
        labels={label: counts[label] for label in labels},
        repeated=len(documents) - len({text_key(document.text) for document in documents}),
        tokens=int(length_N.sum()),
        median_tokens=int(np.median(length_N)),
        p95_tokens=int(np.percentile(length_N, 95)),
        truncated=int((full_N > length_N).sum()),
        share_of_tokens_cut=float(1.0 - length_N.sum() / full_N.sum()),
    )


def _fingerprint(
    splits: dict[SplitName, list[Document]],
    labels: Sequence[str],
    tokenizer_id: str,
    config: DataConfig,
) -> str:
    settings: list[object] = [FORMAT, list(labels), tokenizer_id, config.max_tokens]
    if config.qangaroo is not None:
        settings.append(config.qangaroo.max_chunks)
    digest = hashlib.sha256(json.dumps(settings).encode())
    for split, documents in splits.items():
        for document in documents:
            digest.update(json.dumps([split, document.id, document.label, document.text]).encode())
    return digest.hexdigest()
