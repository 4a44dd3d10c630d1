"""From a data configuration to tokenised splits in the cache, once, whoever asks first.

The folder's name is a key of settings and source state, so that a second call reads nothing but the description; the fingerprint inside is of the content. The key
trusts size and modification time of files: a file changed in place with both kept is not noticed.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
from components.data.tokenization import encode, has_tokens
from components.data.validation import check_between_rows, label_order, resolve, telling, text_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAMED_DROPPED = 20


def prepare(config: DataConfig, tokenizer: "PreTrainedTokenizerBase", *, tokenizer_id: str, cache_path: Path) -> PreparedData:
    """Validated, tokenised documents from the cache, made now if they are not there.

    `tokenizer_id` identifies the tokenizer's content (a hash of its files). Two processes may call at once: one makes, the other waits. Raises `DataError` for documents
    that cannot be used, naming file, row and fix, and `ConfigError` for a tokenizer or max_tokens that cannot work.
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
    return replace(prepared, report=replace(prepared.report, seconds=time.perf_counter() - started, cached=cached))


def _key(config: DataConfig, tokenizer_id: str) -> str:
    settings = config.model_dump(mode="json", exclude={"files", "hub"})
    content = {"format": FORMAT, "settings": settings, "source": source_of(config).state(config), "tokenizer": tokenizer_id}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _make(config: DataConfig, tokenizer: "PreTrainedTokenizerBase", tokenizer_id: str, folder: Path) -> None:
    loaded = check_between_rows(source_of(config).read(config, has_tokens(tokenizer)))
    dropped = resolve(loaded, config.on_invalid)
    splits = complete_splits(loaded, config)
    labels = label_order(document.label for document in splits["train"])
    reports = {}
    with atomic_folder(folder) as unfinished:
        for split, documents in splits.items():
            full_lengths: list[int] = []
            write_split(unfinished, split, _tokenized(documents, labels, tokenizer, config.max_tokens, full_lengths))
            reports[str(split)] = _split_report(documents, labels, full_lengths, config.max_tokens)
        first_dropped = tuple(str(problem) for problem in telling(loaded.problems)[:NAMED_DROPPED])
        report = DataReport(reports, dict(dropped), first_dropped, seconds=0.0, cached=False)
        write_description(unfinished, labels, _fingerprint(splits, labels, tokenizer_id, config.max_tokens), report)


def _tokenized(
    documents: Sequence[Document],
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    max_tokens: int,
    full_lengths: list[int],
) -> Iterator[list[TokenizedDocument]]:
    """Rows of the cache in chunks; fills `full_lengths` on the way."""
    label_ids = {label: label_id for label_id, label in enumerate(labels)}
    for chunk in encode([document.text for document in documents], tokenizer, max_tokens=max_tokens):
        members = documents[len(full_lengths) : len(full_lengths) + len(chunk)]
        full_lengths += [encoded.full_length for encoded in chunk]
        yield [
            TokenizedDocument(document.id, label_ids[document.label], encoded.input_ids)
            for document, encoded in zip(members, chunk, strict=True)
        ]


def _split_report(documents: Sequence[Document], labels: Sequence[str], full_lengths: Sequence[int], max_tokens: int) -> SplitReport:
    full_N = np.asarray(full_lengths)
    length_N = np.minimum(full_N, max_tokens)
    counts = Counter(document.label for document in documents)
    return SplitReport(
        documents=len(documents),
        labels={label: counts[label] for label in labels},
        repeated=len(documents) - len({text_key(document.text) for document in documents}),
        tokens=int(length_N.sum()),
        median_tokens=int(np.median(length_N)),
        p95_tokens=int(np.percentile(length_N, 95)),
        truncated=int((full_N > max_tokens).sum()),
        share_of_tokens_cut=float(1.0 - length_N.sum() / full_N.sum()),
    )


def _fingerprint(splits: dict[SplitName, list[Document]], labels: Sequence[str], tokenizer_id: str, max_tokens: int) -> str:
    digest = hashlib.sha256(json.dumps([FORMAT, list(labels), tokenizer_id, max_tokens]).encode())
    for split, documents in splits.items():
        for document in documents:
            digest.update(json.dumps([split, document.id, document.label, document.text]).encode())
    return digest.hexdigest()
