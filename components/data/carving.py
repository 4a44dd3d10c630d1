"""Splits that the source does not have, carved from train, and caps on their size.

A document's place is decided by a hash of its text and the seed, within its label. So equal texts
always land together, and a data set that grows keeps (nearly all of) its test documents in test.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from components.data.batching import stratified_subset
from components.data.documents import SPLITS, Example, SplitName
from components.data.settings import DataConfig
from components.data.validation import Loaded, label_order, text_key
from components.errors import ConfigError, DataError


def complete_splits(loaded: Loaded, config: DataConfig) -> dict[SplitName, list[Example]]:
    """All three splits: what is missing carved from train, then each capped to `max_documents`."""
    splits = dict(loaded.splits)
    fractions: dict[SplitName, float] = {
        "test": config.test_fraction,
        "validation": config.validation_fraction,
    }
    wanted = {split: fraction for split, fraction in fractions.items() if split not in splits}
    if config.validation_from == "test" and "validation" in wanted:
        if "test" in wanted:
            raise ConfigError(
                "data.validation_from: test needs a source with test documents; give them, or set "
                "data.validation_from=train"
            )
        splits["test"], halves = _carve(
            splits["test"], {"validation": wanted.pop("validation")}, config.split_seed
        )
        splits |= halves
    train, carved = _carve(splits["train"], wanted, config.split_seed)
    labels = label_order(document.stratum for document in train)
    if config.max_documents is not None and config.max_documents < len(labels):
        raise ConfigError(
            f"data.max_documents: {config.max_documents} is less than the number of labels "
            f"({len(labels)}); give at least that"
        )
    complete = {**splits, **carved, "train": train}
    for split in wanted:
        if not complete[split]:
            raise DataError(
                f"data: {len(splits['train'])} training documents are too few to carve {split} "
                f"from; give a {split} file or more documents"
            )
    return {
        split: _capped(complete[split], config.max_documents, config.split_seed) for split in SPLITS
    }


def _carve(
    documents: Sequence[Example], fractions: dict[SplitName, float], seed: int
) -> tuple[list[Example], dict[SplitName, list[Example]]]:
    """A label with fewer distinct texts than splits stays in train as a whole, and of every other
    at least one text does, also where a text carries several labels.
    """
    place: dict[bytes, SplitName] = {}
    by_label: defaultdict[str, dict[bytes, None]] = defaultdict(dict)
    keys = [
        hashlib.sha256(b"%d:" % seed + text_key(document.content)).digest()
        for document in documents
    ]
    for document, key in zip(documents, keys, strict=True):
        by_label[document.stratum][key] = None
    for texts in by_label.values():
        order = sorted(texts)
        if len(order) < 1 + len(fractions):
            continue
        for others, (split, fraction) in zip(
            reversed(range(1, len(fractions) + 1)), fractions.items(), strict=True
        ):
            count = min(max(1, round(fraction * len(texts))), len(order) - others)
            place |= dict.fromkeys(order[:count], split)
            order = order[count:]
    for texts in by_label.values():
        if all(key in place for key in texts):  # other labels of its texts took them all
            del place[max(texts)]
    carved: dict[SplitName, list[Example]] = {split: [] for split in fractions}
    train: list[Example] = []
    for document, key in zip(documents, keys, strict=True):
        carved.get(place.get(key, "train"), train).append(document)
    return train, carved


def _capped(documents: list[Example], count: int | None, seed: int) -> list[Example]:
    if count is None or count >= len(documents):
        return documents
    labels = label_order(document.stratum for document in documents)
    label_ids = [labels.index(document.stratum) for document in documents]
    return [documents[index] for index in stratified_subset(label_ids, count, seed)]
