"""The metrics of a classifier, from its probabilities. Shapes: N documents, C classes."""

from statistics import NormalDist

import numpy as np

from components.evaluation.calibration import (
    Floats,
    Integers,
    adaptive_ece,
    ece,
    ece_upper_edge_10,
    mce,
    top_class,
)

# A probability that underflowed to zero counts as the smallest normal float32: an NLL of 87 nats.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
SUM_TOLERANCE = 1e-3


def classification_metrics(
    probabilities: Floats, label_ids: Integers, *, num_bins: int = 15
) -> dict[str, float]:
    """All metrics of probabilities (N, C) against labels (N,): names without a split (`accuracy`,
    not `test/accuracy`).

    accuracy with its 95% Wilson interval (accuracy_low, accuracy_high), macro_f1, nll (nats),
    brier, ece, mce, adaptive_ece, ece_upper_edge_10, majority_accuracy (always answering the most
    frequent label of these documents), num_documents. Raises ValueError for what are no
    probabilities or labels.
    """
    _check(probabilities, label_ids)
    confidence_N, correct_N = top_class(probabilities, label_ids)
    total, right = len(label_ids), int(correct_N.sum())
    low, high = accuracy_interval(right, total)
    return {
        "accuracy": right / total,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": macro_f1(probabilities.argmax(axis=1), label_ids),
        "nll": nll(probabilities, label_ids),
        "brier": brier(probabilities, label_ids),
        "ece": ece(confidence_N, correct_N, num_bins=num_bins),
        "mce": mce(confidence_N, correct_N, num_bins=num_bins),
        "adaptive_ece": adaptive_ece(confidence_N, correct_N, num_bins=num_bins),
        "ece_upper_edge_10": ece_upper_edge_10(confidence_N, correct_N),
        "majority_accuracy": float(np.bincount(label_ids).max() / total),
        "num_documents": float(total),
    }


def multiple_choice_metrics(
    probabilities: Floats, label_ids: Integers, *, num_candidates: Integers, num_bins: int = 15
) -> dict[str, float]:
    """The same of questions, whose C columns are their own candidates and then zeros: what only
    classes have (macro_f1, majority_accuracy) is left out.

    In its place stand chance_accuracy (answering at random: the mean of 1 / num_candidates) and
    mean_candidates.
    """
    found = classification_metrics(probabilities, label_ids, num_bins=num_bins)
    of_classes = ("macro_f1", "majority_accuracy")
    return {name: value for name, value in found.items() if name not in of_classes} | {
        "chance_accuracy": float((1.0 / num_candidates).mean()),
        "mean_candidates": float(num_candidates.mean()),
    }


def macro_f1(predicted_N: Integers, label_ids_N: Integers) -> float:
    """Mean of the classes' F1 over the classes that occur among labels or predictions (as
    scikit-learn does).
    """
    size = int(max(predicted_N.max(), label_ids_N.max())) + 1
    hits = np.bincount(label_ids_N[predicted_N == label_ids_N], minlength=size)
    # 2 TP / (2 TP + FP + FN): the denominator is the sum of both counts.
    either = np.bincount(predicted_N, minlength=size) + np.bincount(label_ids_N, minlength=size)
    return float((2 * hits[either > 0] / either[either > 0]).mean())


def nll(probabilities_NC: Floats, label_ids_N: Integers) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    of_label_N = probabilities_NC[np.arange(len(label_ids_N)), label_ids_N].astype(np.float64)
    return float(-np.log(np.maximum(of_label_N, SMALLEST_PROBABILITY)).mean())


def brier(probabilities_NC: Floats, label_ids_N: Integers) -> float:
    """Brier's score in its multi-class form, from 0 to 2: mean over documents of the sum over
    classes of (p - y)^2.
    """
    difference_NC = probabilities_NC.astype(np.float64)
    difference_NC[np.arange(len(label_ids_N)), label_ids_N] -= 1.0
    return float((difference_NC**2).sum(axis=1).mean())


def accuracy_interval(right: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for `right` of `total`: holds for few documents and near 0 or 1,
    where the normal one does not. It holds the share itself, exactly.
    """
    if not 0 <= right <= total or total == 0:
        raise ValueError(
            f"an interval needs 0 <= right <= total and total > 0, got {right} of {total}"
        )
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, weight = right / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / weight
    half = z / weight * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    # Where all or none are right, rounding may put an end a hair on the wrong side of the share.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def _check(probabilities_NC: Floats, label_ids_N: Integers) -> None:
    if (
        probabilities_NC.ndim != 2
        or label_ids_N.shape != probabilities_NC.shape[:1]
        or len(label_ids_N) == 0
    ):
        raise ValueError(
            "metrics need probabilities (N, C) and labels (N,) with N > 0, got "
            f"{probabilities_NC.shape} and {label_ids_N.shape}"
        )
    if (
        not np.issubdtype(label_ids_N.dtype, np.integer)
        or label_ids_N.min() < 0
        or label_ids_N.max() >= probabilities_NC.shape[1]
    ):
        raise ValueError(
            f"labels must be integers from 0 to {probabilities_NC.shape[1] - 1}, got "
            f"{label_ids_N.dtype} from {label_ids_N.min()} to {label_ids_N.max()}"
        )
    if (
        not np.isfinite(probabilities_NC).all()
        or probabilities_NC.min() < 0
        or np.abs(probabilities_NC.sum(axis=1) - 1).max() > SUM_TOLERANCE
    ):
        raise ValueError(
            "each row must be probabilities: finite, not negative, with sum 1 (logits go through "
            "evaluation.softmax first)"
        )
