"""Challenger against champion: both answer the same test documents anew, and the rules decide."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluation.gate.decision import Answers, Decision, decide, incomparable
from components.evaluation.gate.settings import GateConfig
from components.registry.history import sketch_of

if TYPE_CHECKING:
    import numpy as np

    from components.data.prepared import TokenizedSplit
    from components.data.settings import DataConfig
    from components.inference.classifier import Classifier


@dataclass(frozen=True)
class Compared:
    """A decision, fingerprint and sketch of the documents that it rests on (empty: it needed
    none).
    """

    decision: Decision
    test_set: str = ""
    test_documents: tuple[str, ...] = ()


def undecided(reason: str, rules: GateConfig) -> Compared:
    """Held for a reason that needs no answers: the test documents have not decided anything."""
    about: dict[str, Any] = {"metric": rules.metric, "alpha": rules.alpha}
    return Compared(
        Decision("hold", (reason,), (), (), None, None, documents=0, seeds=0, number=0, **about)
    )


@dataclass(frozen=True)
class Documents:
    """The test documents as one adapter is given them."""

    split: "TokenizedSplit"
    labels_N: "np.ndarray[Any, Any]"
    """Class ids in the order of the adapter's own labels."""


def compare(
    challenger: Sequence[Path],
    champion: Path,
    *,
    data: "DataConfig",
    rules: GateConfig,
    decisions_before: Callable[[str, tuple[str, ...]], int],
    cache_path: Path,
) -> Compared:
    """Decide between adapter folders; `challenger` holds the trainings of one point with different
    seeds, at least one. `decisions_before`: fingerprint and sketch of a test set -> how often it
    has decided.

    Raises DataError where the documents hold a label that the adapters do not know.
    """
    from components.inference.classifier import load_classifier
    from components.tasks import task_named

    ours, theirs = about(challenger[0]), about(champion)
    task = task_named(ours.task)
    if "label_id" not in task.columns:
        reason = (
            f"{task.words} have no right answer to count, which is what the gate compares; promote "
            "by hand: --force --reason '...'"
        )
        return undecided(reason, rules)
    if incomparable(ours, theirs):
        return Compared(_decided(ours, theirs, None, rules, 1))
    answers: list[Answers] = []
    documents: Documents | None = None
    for folders in (challenger, (champion,)):
        found = []
        for folder in folders:
            classifier = load_classifier(folder, cache_path=cache_path, trusted=True)
            documents = documents_for(classifier, data, cache_path)
            timed = rules.max_latency_ratio is not None
            found.append(answered(classifier, documents, about(folder), timed=timed))
        answers.append(_joined(found))
    assert documents is not None
    hashes = hashes_of(documents.split, task.columns)
    test_set = hashlib.sha256("".join(hashes).encode()).hexdigest(), sketch_of(hashes)
    number = decisions_before(*test_set) + 1
    first, second = answers
    return Compared(_decided(first, second, documents, rules, number), *test_set)


def about(folder: Path) -> Answers:
    """What an adapter folder is, without any answers. Nothing is loaded."""
    from components.adapters import read_adapter_config
    from components.adapters.reading import read_header
    from components.tasks import stored_task

    config = read_adapter_config(folder)
    backbone = config.get("backbone") or {}
    return Answers(
        probabilities=(),
        task=stored_task(config).name,
        labels=tuple(config["head"].get("labels") or ()),
        backbone=f"{backbone.get('name_or_path')} at {backbone.get('revision') or 'no revision'}",
        parameters=sum(tensor.numbers for tensor in read_header(folder).values()),
    )


def documents_for(classifier: "Classifier", data: "DataConfig", cache_path: Path) -> Documents:
    """The test documents, cut as in this adapter's training. Raises DataError."""
    import numpy as np

    from components.data.settings import PROMPT
    from components.tasks import prepare
    from components.tasks.classification import ids_in

    task = classifier.task
    own = {name: classifier.cutting[name] or None for name in PROMPT if name in classifier.cutting}
    cut = data.model_copy(update={"max_tokens": classifier.max_tokens, **own})
    prepared = prepare(
        cut,
        classifier.tokenizer,
        tokenizer_id=classifier.tokenizer_id,
        cache_path=cache_path,
    )
    split = prepared.splits["test"]
    labels_N = split.label_ids
    if task.has_classes:
        labels_N = np.array(ids_in(classifier.labels, prepared.labels, split))[labels_N]
    return Documents(split, labels_N)


def hashes_of(split: "TokenizedSplit", columns: Iterable[str]) -> list[str]:
    """Of each document of a split, sorted: its id, what is learnt, its tokens."""
    learnt = [split.column(name) for name in sorted(columns)]
    return sorted(
        hashlib.sha256(
            json.dumps([identity, *(float(column[index]) for column in learnt)]).encode()
            + split.input_ids(index).tobytes()
        ).hexdigest()
        for index, identity in enumerate(split.ids)
    )


def answered(
    classifier: "Classifier", documents: Documents, what: Answers, *, timed: bool
) -> Answers:
    """The adapter's calibrated answers; `timed`: and how long one document took, in seconds, when
    all were answered a second time, so that nobody pays for warming up.
    """
    import torch

    outputs = classifier.split_outputs(documents.split)
    seconds = None
    if timed:
        started = time.perf_counter()
        classifier.split_outputs(documents.split)
        seconds = (time.perf_counter() - started) / max(1, len(documents.split))
    probabilities = classifier.task.answered(torch.from_numpy(outputs), classifier.temperature)
    return dataclasses.replace(what, probabilities=(probabilities,), seconds_per_document=seconds)


def _joined(found: Sequence[Answers]) -> Answers:
    return dataclasses.replace(
        found[0],
        probabilities=tuple(each for answers in found for each in answers.probabilities),
        parameters=max(answers.parameters for answers in found),
    )


def _decided(
    ours: Answers,
    theirs: Answers,
    documents: Documents | None,
    rules: GateConfig,
    number: int,
) -> Decision:
    import numpy as np

    none = np.zeros(0, dtype=np.int64)
    return decide(
        ours,
        theirs,
        labels_N=none if documents is None else documents.labels_N,
        lengths_N=none if documents is None else documents.split.full_lengths,
        class_names=ours.labels,
        rules=rules,
        number=number,
    )
