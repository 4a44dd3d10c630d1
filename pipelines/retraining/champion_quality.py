"""How good is the champion on documents that came after it was trained? Measured before anything
new is trained, so none of them has been seen; tracked over time in one run of the experiment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.config import ExperimentConfig, config_sha256
from components.data.documents import Example
from components.registry import Tracker, run_tags
from pipelines.retraining.work import run_of

MOST_DOCUMENTS = 1000
"""The newest of these are answered."""


@dataclass(frozen=True)
class Quality:
    """Of a champion on documents that it has never seen. A label that it does not know is answered
    wrong; `nll` (nats) is over the others, None where there are none. `overconfidence`: mean
    confidence minus accuracy, with its standard error were the champion calibrated.
    """

    version: int
    documents: int
    accuracy: float
    nll: float | None
    overconfidence: float
    overconfidence_error: float


def quality_on(
    adapter: Path, version: int, examples: Sequence[Example], *, cache_path: Path
) -> Quality | None:
    """The champion's quality on the last of `examples`; None where there are no classes, or no
    examples.
    """
    from components.evaluation.calibration import overconfidence, top_class
    from components.evaluation.metrics import nll
    from components.inference.classifier import load_classifier

    newest = list(examples)[-MOST_DOCUMENTS:]
    if not newest:
        return None
    classifier = load_classifier(adapter, cache_path=cache_path, trusted=True)
    if not classifier.task.has_classes:
        return None
    answers_NC = classifier.probabilities([each.content for each in newest])
    ids = {label: index for index, label in enumerate(classifier.labels)}
    labels_N = np.array([ids.get(each.stratum, -1) for each in newest])
    known_N = labels_N >= 0
    confidence_N, correct_N = top_class(answers_NC, labels_N)
    gap, gap_error = overconfidence(confidence_N, correct_N)
    return Quality(
        version=version,
        documents=len(newest),
        accuracy=float(correct_N.mean()),
        nll=nll(answers_NC[known_N], labels_N[known_N]) if known_N.any() else None,
        overconfidence=gap,
        overconfidence_error=gap_error,
    )


def log_quality(
    tracker: Tracker, config: ExperimentConfig, name: str, quality: Quality, *, number: int
) -> None:
    """Add a point to the champion's curve. `number`: the how-manieth retraining it is; the same one
    again adds nothing.
    """
    run_id, _ = run_of(
        tracker,
        config,
        name,
        {"kind": "champion_quality", "retraining": name},
        run_name=f"champion of {config.model_name}",
        tags=run_tags(config_sha256=config_sha256(config)),
    )
    tracker.resume_run(run_id, {"champion_version": str(quality.version)})
    metrics = {
        "champion/newest_documents": float(quality.documents),
        "champion/newest_accuracy": quality.accuracy,
        "champion/newest_overconfidence": quality.overconfidence,
        "champion/version": float(quality.version),
    }
    if quality.nll is not None:
        metrics["champion/newest_nll"] = quality.nll
    tracker.log_metrics(run_id, metrics, step=number)
    tracker.finish(run_id, "completed", f"version {quality.version}: {quality.accuracy:.1%}")
