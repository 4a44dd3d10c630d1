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

if TYPE_CHECKING:
    import numpy as np

    from components.data.prepared import TokenizedSplit
    from components.data.settings import DataConfig
    from components.inference.classifier import Classifier


@dataclass(frozen=True)
class Compared:
    """A decision and the fingerprint of the documents that it rests on (empty: it needed none)."""

    decision: Decision
    test_set: str


def undecided(reason: str, rules: GateConfig) -> Compared:
    """Held for a reason that needs no answers: the test documents have not decided anything."""
    about: dict[str, Any] = {"metric": rules.metric, "alpha": rules.alpha}
    return Compared(
        Decision("hold", (reason,), (), (), None, None, documents=0, seeds=0, number=0, **about),
        "",
    )


@dataclass(frozen=True)
class Documents:
    """The test documents as one adapter is given them."""

    split: "TokenizedSplit"
    labels_N: "np.ndarray[Any, Any]"
    """Class ids in the order of the adapter's own labels."""
    fingerprint: str


def compare(
    challenger: Sequence[Path],
    champion: Path,
    *,
    data: "DataConfig",
    rules: GateConfig,
    decisions_before: Callable[[str], int],
    cache_path: Path,
) -> Compared:
    """Decide between adapter folders; `challenger` holds the trainings of one point with different
    seeds, at least one. `decisions_before`: fingerprint of a test set -> how often it has decided.

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
        return Compared(_decided(ours, theirs, None, rules, 1), "")
    answers: list[Answers] = []
    documents: Documents | None = None
    for folders in (challenger, (champion,)):
        found = []
        for folder in folders:
            classifier = load_classifier(folder, cache_path=cache_path, trusted=True)
            documents = documents_for(classifier, data, cache_path)
            found.append(answered(classifier, documents, about(folder)))
        answers.append(_joined(found))
    assert documents is not None
    number = decisions_before(documents.fingerprint) + 1
    first, second = answers
    return Compared(_decided(first, second, documents, rules, number), documents.fingerprint)


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

    from components.tasks import prepare
    from components.tasks.classification import ids_in

    task = classifier.task
    cut = data.model_copy(update={"max_tokens": classifier.max_tokens})
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
    return Documents(split, labels_N, fingerprint_of(split, task.columns))


def fingerprint_of(split: "TokenizedSplit", columns: Iterable[str]) -> str:
    """Hash of the documents of a split, their order aside: ids, what is learnt, tokens."""
    learnt = [split.column(name) for name in sorted(columns)]
    documents = sorted(
        hashlib.sha256(
            json.dumps([identity, *(float(column[index]) for column in learnt)]).encode()
            + split.input_ids(index).tobytes()
        ).digest()
        for index, identity in enumerate(split.ids)
    )
    return hashlib.sha256(b"".join(documents)).hexdigest()


def answered(classifier: "Classifier", documents: Documents, what: Answers) -> Answers:
    """The adapter's calibrated answers, and how long one document took, in seconds."""
    import torch

    started = time.perf_counter()
    outputs = classifier.split_outputs(documents.split)
    seconds = time.perf_counter() - started
    probabilities = classifier.task.answered(torch.from_numpy(outputs), classifier.temperature)
    return dataclasses.replace(
        what,
        probabilities=(probabilities,),
        seconds_per_document=seconds / max(1, len(documents.split)),
    )


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
        lengths_N=none if documents is None else documents.split.tokens,
        class_names=ours.labels,
        rules=rules,
        number=number,
    )
