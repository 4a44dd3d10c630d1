"""The documents of a retraining: read from their source, kept apart for testing once and for all,
and written down as they were used.

A test set that decides about one version after the other has to stay the same documents. Its first
retraining draws it; from then on a document is in it because it was: by its own id where the source
gives ids (so that a corrected text stays), else by its text. Documents that the source no longer
has are gone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.atomic_folder import atomic_folder
from components.config import ExperimentConfig
from components.data.carving import complete_splits
from components.data.documents import SPLITS, Example, SplitName, has_own_id
from components.data.sources import source_of
from components.data.validation import Loaded, check_between_rows, resolve, text_key
from components.errors import ConfigError
from components.tasks import task_named
from components.tasks.labelled_text import LabelledText

TEST_SET = "test_set.json"
Splits = dict[SplitName, list[Example]]


@dataclass(frozen=True)
class Documents:
    """All splits, and the fingerprint of what they hold: content, not files or their times."""

    splits: Splits
    fingerprint: str

    @property
    def all(self) -> list[Example]:
        return [example for split in SPLITS for example in self.splits[split]]


def read_source(config: ExperimentConfig) -> Loaded:
    """The source's valid documents by the splits that it has. No torch, no tokenizer is loaded.
    Raises DataError, ConfigError.
    """
    task, source = task_named(config.data.task), source_of(config.data)
    loaded = Loaded({})
    for split, rows in source.read(config.data, _needs_tokenizer).items():
        loaded.splits[split], problems = task.examples(rows, source.columns(config.data))
        loaded.problems += problems
    loaded = check_between_rows(loaded, task.checks)
    resolve(loaded, config.data.on_invalid)
    others = [each for part in loaded.splits.values() for each in part]
    if not all(isinstance(each, LabelledText) for each in others):
        raise ConfigError(
            f"data.task: documents with a text and a label can be retrained on; these are "
            f"{task.words}."
        )
    return loaded


def _needs_tokenizer(text: str, count: int) -> bool:
    raise ConfigError(
        "data: this source makes its documents up as they are asked for; there is never anything "
        "new to retrain on. Name files, a hub data set or an installed one."
    )


def fingerprint_of(loaded: Loaded) -> str:
    """Hash of texts (white space aside) and labels by split, whatever their order."""
    digest = hashlib.sha256()
    for split in SPLITS:
        keys = sorted(_content_key(each) for each in loaded.splits.get(split, ()))
        digest.update(f"{split} {len(keys)} ".encode() + b"".join(keys))
    return digest.hexdigest()


def _content_key(example: Example) -> bytes:
    return hashlib.sha256(text_key(example.content) + example.stratum.encode()).digest()


def changed_documents(old: Sequence[Example], new: Sequence[Example]) -> int:
    """How many were added, corrected or removed."""
    before, now = ({_content_key(each) for each in side} for side in (old, new))
    return len(before ^ now)


def new_documents(old: Sequence[Example], new: Sequence[Example]) -> list[Example]:
    """Those of `new` that are not among the `old`, in their order; a corrected one is new."""
    before = {_content_key(each) for each in old}
    return [each for each in new if _content_key(each) not in before]


def with_kept_test_set(
    loaded: Loaded, config: ExperimentConfig, previous: Path | None
) -> Documents:
    """All three splits, the test documents of the `previous` snapshot among test again. A source
    with a test split of its own decides itself.
    """
    kept = None if previous is None else _read_test_set(previous)
    if kept is not None and "test" not in loaded.splits:
        own = [each for part in loaded.splits.values() for each in part]
        test = [each for each in own if _is_in(each, kept)]
        if test:
            chosen = {id(each) for each in test}
            splits = {
                split: [each for each in part if id(each) not in chosen]
                for split, part in loaded.splits.items()
            }
            complete = complete_splits(Loaded({**splits, "test": test}), config.data)
            return Documents(complete, fingerprint_of(loaded))
    return Documents(complete_splits(loaded, config.data), fingerprint_of(loaded))


def _read_test_set(snapshot: Path) -> dict[str, set[str]]:
    values = json.loads((snapshot / TEST_SET).read_text(encoding="utf-8"))
    return {name: set(values[name]) for name in ("ids", "texts")}


def _is_in(example: Example, kept: dict[str, set[str]]) -> bool:
    if has_own_id(example) and example.id in kept["ids"]:
        return True
    return text_key(example.content).hex() in kept["texts"]


def write_snapshot(documents: Documents, folder: Path) -> None:
    """Write `folder`: a JSON Lines file per split, and what the test set is known by."""
    with atomic_folder(folder) as unfinished:
        for split, part in documents.splits.items():
            lines = (json.dumps(_row(each), ensure_ascii=False) + "\n" for each in part)
            (unfinished / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        test = documents.splits["test"]
        known = {
            "ids": sorted(each.id for each in test if has_own_id(each)),
            "texts": sorted({text_key(each.content).hex() for each in test}),
        }
        (unfinished / TEST_SET).write_text(json.dumps(known) + "\n", encoding="utf-8")


def read_snapshot(folder: Path) -> list[Example]:
    """All documents of a snapshot."""
    found: list[Example] = []
    for split in SPLITS:
        file = folder / f"{split}.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            identity = row.get("id", f"{file.name}:{number}")
            found.append(LabelledText(identity, row["text"], row["label"], file.name, number))
    return found


def _row(example: Example) -> dict[str, Any]:
    own = {"id": example.id} if has_own_id(example) else {}
    return {**own, "text": example.content, "label": example.stratum}
