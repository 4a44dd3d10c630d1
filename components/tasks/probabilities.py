"""What tasks share whose outputs are logits of exclusive answers: the loss, calibration by one
temperature, metrics of probabilities, reliability. Shapes: N documents, C answers.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from components.tasks.task import Conclusion, Direction, Evaluated

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from components.data.prepared import TokenizedSplit

    Array = np.ndarray[Any, Any]
    Measure = Callable[[Array, Array], dict[str, float]]

CALIBRATED: Mapping[str, Direction] = {
    "nll": "min",
    "brier": "min",
    "ece": "min",
    "mce": "min",
    "adaptive_ece": "min",
    "ece_upper_edge_10": "min",
}
"""Metrics of probabilities, which a temperature changes."""


def cross_entropy(
    logits: "Tensor", labels: "Tensor", *, reduction: Literal["sum", "mean"]
) -> "Tensor":
    """Of the labels (B,) under the softmax of logits (B, C)."""
    from torch.nn import functional

    return functional.cross_entropy(logits, labels, reduction=reduction)


def softmax_of(logits: "Tensor", temperature: float) -> "Array":
    """Calibrated probabilities (B, C), float32."""
    import torch

    probabilities: Array = torch.softmax(logits / temperature, dim=-1).cpu().numpy()
    return probabilities


def kept(logits: "Tensor") -> "Array":
    """Logits (B, C) as evaluation keeps them, float32."""
    array: Array = logits.float().cpu().numpy()
    return array


def concluded(
    measure: "Measure",
    outputs: "Mapping[str, Array]",
    splits: "Mapping[str, TokenizedSplit]",
) -> Conclusion:
    """validation/... and test/... at temperature 1, test_calibrated/... at the temperature that is
    fitted on validation documents; reliability and lengths of the calibrated test answers, and
    reliability of those at temperature 1. `measure`: logits and label ids -> metrics.
    """
    from components.evaluation import (
        before_and_after,
        by_document_length,
        calibration_report,
        softmax,
    )

    found = {name: measure(outputs[name], splits[name].label_ids) for name in outputs}
    metrics = {f"{split}/{name}": value for split in found for name, value in found[split].items()}
    calibration = calibration_report(outputs["validation"], splits["validation"].label_ids)
    test, calibrated = splits["test"], outputs["test"] / calibration["temperature"]
    metrics |= {
        f"test_calibrated/{name}": value
        for name, value in measure(calibrated, test.label_ids).items()
        if name in CALIBRATED
    }
    probabilities = softmax(calibrated)
    return Conclusion(
        metrics=metrics,
        calibration=calibration,
        reliability=before_and_after(softmax(outputs["test"]), probabilities, test.label_ids),
        by_length=by_document_length(
            probabilities, test.label_ids, test.full_lengths, kept=test.tokens
        ),
    )


def evaluated(
    measure: "Callable[[Array], dict[str, float]]",
    logits: "Array",
    label_ids: "Array",
    split: "TokenizedSplit",
    *,
    temperature: float,
    confusion: tuple[tuple[int, ...], ...],
) -> Evaluated:
    """Metrics of the calibrated answers and of temperature 1, for the documents of `split` with
    labels `label_ids` (N,). `measure`: probabilities -> metrics.
    """
    from components.evaluation import before_and_after, by_document_length, softmax

    calibrated, uncalibrated = softmax(logits, temperature=temperature), softmax(logits)
    return Evaluated(
        metrics=measure(calibrated),
        uncalibrated=measure(uncalibrated),
        confusion=confusion,
        by_length=by_document_length(calibrated, label_ids, split.full_lengths, kept=split.tokens),
        reliability=before_and_after(uncalibrated, calibrated, label_ids),
    )
