"""What a difference between methods is worth: intervals over seeds, paired tests on the same test
documents, and a correction for how many were made.

Shapes: N documents, C classes, S seeds, R resamples. The fact a newcomer gets wrong: seeds are no
further documents. Scores are averaged over seeds first and documents are what is resampled, so that
three seeds on 100 documents count as 100 documents, not as 300.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from components.evaluation.bootstrap import interval_around
from components.evaluation.calibration import Floats, Integers, equal_width_bins, top_class
from components.evaluation.metrics import SMALLEST_PROBABILITY

Statistic = Callable[[Floats, Integers, Floats], Floats]
"""(probabilities (N, C), labels (N,), how often each resample holds each document (R, N)) -> the
score of each resample (R,).
"""


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; `low` and `high` are None where one value alone says
    nothing about the spread.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


def seed_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean and Student's t interval of independent values, here one per seed. Raises ValueError
    without values.
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    mean, count = float(np.mean(values)), len(values)
    if count == 1:
        return Interval(mean, None, None, 1)
    half = float(stats.t.ppf(0.5 + level / 2, count - 1) * np.std(values, ddof=1) / count**0.5)
    return Interval(mean, mean - half, mean + half, count)


def accuracy_of_resamples(
    probabilities_NC: Floats, labels_N: Integers, counts_RN: Floats
) -> Floats:
    """Accuracy of each resample."""
    return _weighted_mean(top_class(probabilities_NC, labels_N)[1].astype(np.float64), counts_RN)


def macro_f1_of_resamples(
    probabilities_NC: Floats, labels_N: Integers, counts_RN: Floats
) -> Floats:
    """Macro F1 of each resample over the classes that occur in it among labels or answers (as
    `macro_f1`).
    """
    predicted_N, classes = probabilities_NC.argmax(axis=1), np.arange(probabilities_NC.shape[1])
    is_label_NC, is_answer_NC = labels_N[:, None] == classes, predicted_N[:, None] == classes
    hits_RC = counts_RN @ (is_label_NC & is_answer_NC)
    either_RC = counts_RN @ (is_label_NC.astype(np.float64) + is_answer_NC)
    f1_RC = np.divide(2 * hits_RC, either_RC, out=np.zeros_like(either_RC), where=either_RC > 0)
    return f1_RC.sum(axis=1) / (either_RC > 0).sum(axis=1)


def ece_of_resamples(
    probabilities_NC: Floats, labels_N: Integers, counts_RN: Floats, *, num_bins: int = 15
) -> Floats:
    """ECE (Guo et al. 2017) of each resample: a bin's share times its gap is |sum of (correct -
    confidence) in the bin| / N.
    """
    confidence_N, correct_N = top_class(probabilities_NC, labels_N)
    in_bin_NB = equal_width_bins(confidence_N, num_bins)[:, None] == np.arange(num_bins)
    gap_NB = in_bin_NB * (correct_N - confidence_N.astype(np.float64))[:, None]
    return np.abs(counts_RN @ gap_NB).sum(axis=1) / counts_RN.sum(axis=1)


def brier_of_resamples(probabilities_NC: Floats, labels_N: Integers, counts_RN: Floats) -> Floats:
    """Brier's multi-class score of each resample."""
    difference_NC = probabilities_NC.astype(np.float64)
    difference_NC[np.arange(len(labels_N)), labels_N] -= 1.0
    return _weighted_mean((difference_NC**2).sum(axis=1), counts_RN)


def nll_of_resamples(probabilities_NC: Floats, labels_N: Integers, counts_RN: Floats) -> Floats:
    """Negative log-likelihood of each resample, in nats."""
    of_label_N = probabilities_NC[np.arange(len(labels_N)), labels_N].astype(np.float64)
    return _weighted_mean(-np.log(np.maximum(of_label_N, SMALLEST_PROBABILITY)), counts_RN)


def _weighted_mean(score_N: Floats, counts_RN: Floats) -> Floats:
    result: Floats = counts_RN @ score_N / counts_RN.sum(axis=1)
    return result


STATISTICS: dict[str, Statistic] = {
    "accuracy": accuracy_of_resamples,
    "macro_f1": macro_f1_of_resamples,
    "ece": ece_of_resamples,
    "brier": brier_of_resamples,
    "nll": nll_of_resamples,
}
"""Scores that can be compared on resampled documents, by the name of the metric."""
MOST = {"accuracy": 1.0, "macro_f1": 1.0, "ece": 1.0, "brier": 2.0, "nll": math.inf}
"""The largest value that each can have."""


def resample(num_documents: int, *, resamples: int, seed: int) -> Floats:
    """How often each of R resamples (with replacement) holds each of N documents: (R, N), every row
    summing to N. The same numbers give the same draws.
    """
    draw = np.random.default_rng(np.random.SeedSequence([seed, num_documents]))
    return draw.multinomial(
        num_documents, np.full(num_documents, 1 / num_documents), size=resamples
    ).astype(np.float64)


def seed_mean(
    statistic: Statistic, probabilities_SNC: Sequence[Floats], labels_N: Integers, counts_RN: Floats
) -> Floats:
    """The score of each resample, averaged over seeds: (R,)."""
    return np.mean(
        [
            statistic(probabilities_NC, labels_N, counts_RN)
            for probabilities_NC in probabilities_SNC
        ],
        axis=0,
    )


@dataclass(frozen=True)
class BootstrapDifference:
    """First method minus second. `low`, `high`: percentile interval over resampled documents, moved
    to the estimate; `p_value`: two-sided, that there is no difference.
    """

    difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    statistic: Statistic,
    first_SNC: Sequence[Floats],
    second_SNC: Sequence[Floats],
    labels_N: Integers,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> BootstrapDifference:
    """Compare two methods on the same documents: both are scored on every resample, averaged over
    their seeds (Efron and Tibshirani 1993, chapters 13 and 16).

    `first_SNC`, `second_SNC`: probabilities (N, C) of each seed. The p-value is the share of
    resampled differences, moved to mean zero, that are at least as large as the one seen; counted
    with the sample itself, it is never 0. Where all resamples differ alike (one document, or a few
    that all differ) they know no chance: p is then 1 and the interval reaches to 0. It speaks for
    these seeds: how much another seed would change is in `seed_interval`. Raises ValueError where
    the documents do not match.
    """
    for probabilities_NC in (*first_SNC, *second_SNC):
        if len(probabilities_NC) != len(labels_N):
            raise ValueError(
                f"a paired test needs the same documents: {len(probabilities_NC)} answers for "
                f"{len(labels_N)} labels"
            )
    counts_RN, once_1N = (
        resample(len(labels_N), resamples=resamples, seed=seed),
        np.ones((1, len(labels_N))),
    )
    difference = float(
        (
            seed_mean(statistic, first_SNC, labels_N, once_1N)
            - seed_mean(statistic, second_SNC, labels_N, once_1N)
        )[0]
    )
    differences_R = seed_mean(statistic, first_SNC, labels_N, counts_RN) - seed_mean(
        statistic, second_SNC, labels_N, counts_RN
    )
    low, high = interval_around(difference, differences_R, level=level)
    tolerance = 1e-12  # equal sums of floats may differ in their last bits
    if np.ptp(differences_R) < tolerance < abs(difference):
        return BootstrapDifference(difference, min(low, 0.0), max(high, 0.0), 1.0)
    as_large = np.abs(differences_R - differences_R.mean()) >= abs(difference) - tolerance
    return BootstrapDifference(difference, low, high, float((as_large.sum() + 1) / (resamples + 1)))


def score_interval(
    statistic: Statistic,
    probabilities_SNC: Sequence[Floats],
    labels_N: Integers,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
    most: float = 1.0,
) -> tuple[float, float]:
    """Percentile interval over resampled documents of one method's score, averaged over its seeds:
    what another test set of this size could show. `most`: the largest value that the score can
    have.
    """
    once_1N = np.ones((1, len(labels_N)))
    scores_R = seed_mean(
        statistic,
        probabilities_SNC,
        labels_N,
        resample(len(labels_N), resamples=resamples, seed=seed),
    )
    estimate = float(seed_mean(statistic, probabilities_SNC, labels_N, once_1N)[0])
    return interval_around(estimate, scores_R, level=level, least=0.0, most=most)


@dataclass(frozen=True)
class McNemar:
    """Documents that only the first, and only the second method answers right, and the exact
    two-sided p-value.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(
    first_correct_N: np.ndarray[Any, Any], second_correct_N: np.ndarray[Any, Any]
) -> McNemar:
    """McNemar's exact test on the same documents: the discordant ones are a fair coin under the
    hypothesis of equal accuracy. Raises ValueError where the lengths differ.
    """
    if first_correct_N.shape != second_correct_N.shape:
        raise ValueError(
            f"a paired test needs the same documents: {first_correct_N.shape} against "
            f"{second_correct_N.shape}"
        )
    only_first = int((first_correct_N & ~second_correct_N).sum())
    only_second = int((second_correct_N & ~first_correct_N).sum())
    discordant = only_first + only_second
    p_value = float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_first, only_second, p_value)


def seed_averaged_correct(
    probabilities_SNC: Sequence[Floats], labels_N: Integers
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Whether the answer of the probabilities averaged over seeds is right, per document (N,): one
    answer per method and document, as McNemar's test needs.
    """
    return top_class(np.mean(probabilities_SNC, axis=0), labels_N)[1]


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction: adjusted p-values in the given order; comparing them with 0.05
    keeps the chance of any false claim among them below 5%.
    """
    count, largest = len(p_values), 0.0
    adjusted = [0.0] * count
    for rank, index in enumerate(sorted(range(count), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)
