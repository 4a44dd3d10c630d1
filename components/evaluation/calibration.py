"""Calibration errors of the predicted class. Two of them are called ECE in the literature and
differ: `ece` (Guo et al. 2017) and `ece_upper_edge_10` (the released code's metric).

Shapes: N documents, C classes. `confidence_N` is the probability of the predicted class,
`correct_N` whether that class is right. All errors lie in [0, 1].
"""

from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]
Integers = np.ndarray[Any, np.dtype[np.integer[Any]]]
Booleans = np.ndarray[Any, np.dtype[np.bool_]]


def top_class(probabilities_NC: Floats, label_ids_N: Integers) -> tuple[Floats, Booleans]:
    """(confidence_N, correct_N) of probabilities (N, C) and labels (N,). The first of equal classes
    is the predicted one.
    """
    return probabilities_NC.max(axis=1), probabilities_NC.argmax(axis=1) == label_ids_N


def overconfidence(confidence_N: Floats, correct_N: Booleans) -> tuple[float, float]:
    """(mean confidence minus accuracy, its standard error were the confidences true): a calibrated
    model is right with the probability that it says, document by document, so their quotient is
    about a standard normal deviate whatever N is. A binned error has no such scale: it grows where
    documents are few.
    """
    gap = float(confidence_N.mean() - correct_N.mean())
    spread = float((confidence_N * (1.0 - confidence_N)).sum())
    return gap, spread**0.5 / len(confidence_N)


def equal_width_bins(confidence_N: Floats, num_bins: int) -> Integers:
    """Bin index 0..num_bins-1 of each confidence; bin b is (b/num_bins, (b+1)/num_bins], the first
    one closed on both sides.

    Confidences are compared as float32, the precision in which models give them: the decimal
    fractions 0.6 and 0.7 then lie inside the bin (0.6, 0.7]. On which side of an edge a confidence
    falls that is written like it (0.2, 1/3) is decided by the last bit of its float32.
    """
    inner_edges = np.linspace(0.0, 1.0, num_bins + 1)[1:-1]
    return np.digitize(confidence_N.astype(np.float32), inner_edges, right=True)


def bin_gaps(
    confidence_N: Floats, correct_N: Booleans | Floats, bins_N: Integers
) -> tuple[Floats, Floats]:
    """Per occupied bin: its share of the documents, and |accuracy - mean confidence|."""
    _, inverse_N, count = np.unique(bins_N, return_inverse=True, return_counts=True)
    accuracy = np.bincount(inverse_N, weights=correct_N.astype(np.float64)) / count
    confidence = np.bincount(inverse_N, weights=confidence_N.astype(np.float64)) / count
    return count / len(bins_N), np.abs(accuracy - confidence)


def ece(confidence_N: Floats, correct_N: Booleans, *, num_bins: int = 15) -> float:
    """Expected calibration error, Guo et al. 2017 eq. 3: equal-width bins, the mean confidence of a
    bin stands for it.
    """
    share, gap = bin_gaps(confidence_N, correct_N, equal_width_bins(confidence_N, num_bins))
    return float(share @ gap)


def mce(confidence_N: Floats, correct_N: Booleans, *, num_bins: int = 15) -> float:
    """Maximum calibration error, Guo et al. 2017 eq. 5: the largest gap of an occupied equal-width
    bin.
    """
    return float(
        bin_gaps(confidence_N, correct_N, equal_width_bins(confidence_N, num_bins))[1].max()
    )


def adaptive_ece(confidence_N: Floats, correct_N: Booleans, *, num_bins: int = 15) -> float:
    """ECE over bins of equal mass: documents sorted by confidence and cut into num_bins runs whose
    sizes differ by at most one.

    Documents of equal confidence count with their common accuracy, so that a run that ends among
    them does not depend on their order.
    """
    _, group_N, size = np.unique(confidence_N, return_inverse=True, return_counts=True)
    accuracy_N = (np.bincount(group_N, weights=correct_N.astype(np.float64)) / size)[group_N]
    order = np.argsort(confidence_N, kind="stable")
    runs = [run for run in np.array_split(order, num_bins) if len(run)]
    bins_N = np.empty(len(order), dtype=np.int64)
    for index, run in enumerate(runs):
        bins_N[run] = index
    share, gap = bin_gaps(confidence_N, accuracy_N, bins_N)
    return float(share @ gap)


def ece_upper_edge_10(confidence_N: Floats, correct_N: Booleans) -> float:
    """The released code's metric: 10 equal-width bins [b/10, (b+1)/10), the bin's UPPER EDGE
    standing for its confidence. Not comparable with `ece`.

    Confidences are compared as float32, as that metric stores them: 0.6 and 0.7 then share the bin
    [0.6, 0.7), which its worked example (0.1333) rests on.
    """
    edges = np.linspace(0.0, 1.0, 11)
    bins_N = np.clip(np.digitize(confidence_N.astype(np.float32), edges, right=False) - 1, 0, 9)
    count = np.bincount(bins_N, minlength=10)
    occupied = count > 0
    accuracy = (
        np.bincount(bins_N, weights=correct_N.astype(np.float64), minlength=10)[occupied]
        / count[occupied]
    )
    return float((count[occupied] / len(bins_N)) @ np.abs(accuracy - edges[1:][occupied]))
