"""How much better are the challenger's answers, with an interval over the documents?

Shapes: S seeds, N documents, C classes, R resamples. Scores are averaged over seeds first;
documents are what is resampled, always for both at once.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from components.evaluation.calibration import Floats, Integers, top_class
from components.evaluation.gate.settings import GateMetric
from components.evaluation.significance import STATISTICS, seed_mean

SMALLER_IS_BETTER = frozenset({"nll", "brier", "ece"})
MOST_FOR_BCA = 2000
"""BCa's jackknife holds N x N numbers; beyond this it and plain percentiles agree anyway."""
RESAMPLES = (2_000, 100_000)
"""Fewest and most."""


@dataclass(frozen=True)
class Gain:
    """Positive where the challenger is better. `low`, `high`: interval of confidence 1 - 2 alpha,
    so that each end by itself is wrong with chance alpha.
    """

    champion: float
    challenger: float
    gain: float
    low: float
    high: float


def gain_of(
    metric: GateMetric,
    challenger_SNC: Sequence[Floats],
    champion_SNC: Sequence[Floats],
    labels_N: Integers,
    *,
    alpha: float,
    seed: int = 0,
) -> Gain:
    """Both scores and their paired difference, by scipy's bootstrap (BCa; Efron 1987) with as many
    resamples as an end at `alpha` needs.
    """
    statistic, sign = STATISTICS[metric], -1.0 if metric in SMALLER_IS_BETTER else 1.0
    count = len(labels_N)

    def gains(rows_RN: Integers, axis: int = -1) -> Floats:
        rows_RN = np.atleast_2d(np.moveaxis(rows_RN, axis, -1))
        of_resample_RN = rows_RN + count * np.arange(len(rows_RN))[:, None]
        counts = np.bincount(of_resample_RN.ravel(), minlength=count * len(rows_RN))
        counts_RN: Floats = counts.reshape(-1, count).astype(np.float64)
        ours_R = seed_mean(statistic, challenger_SNC, labels_N, counts_RN)
        theirs_R = seed_mean(statistic, champion_SNC, labels_N, counts_RN)
        found: Floats = sign * (ours_R - theirs_R)
        return found

    ours, theirs = (
        float(seed_mean(statistic, each_SNC, labels_N, np.ones((1, count)))[0])
        for each_SNC in (challenger_SNC, champion_SNC)
    )
    gain = sign * (ours - theirs)
    with warnings.catch_warnings():
        # Where documents gain alike there is no BCa interval, which is dealt with below.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (np.arange(count),),
            gains,
            n_resamples=int(np.clip(20 / alpha, *RESAMPLES)),
            batch=max(1, 4_000_000 // count),
            confidence_level=1 - 2 * alpha,
            method="BCa" if count <= MOST_FOR_BCA else "percentile",
            rng=np.random.default_rng(seed),
            vectorized=True,
        )
    values_R = np.ravel(found.bootstrap_distribution)
    low, high = (float(end) for end in np.ravel(found.confidence_interval))
    if np.ptp(values_R) < 1e-12:
        low, high = _interval_of_equal_gains(metric, gain, count, alpha)
    elif not np.isfinite([low, high]).all():
        low, high = (float(end) for end in np.quantile(values_R, [alpha, 1 - alpha]))
    return Gain(theirs, ours, gain, min(low, gain), max(high, gain))


def _interval_of_equal_gains(
    metric: GateMetric, gain: float, count: int, alpha: float
) -> tuple[float, float]:
    """Every document gains the same, so resamples know no chance. A document of another kind, not
    seen among N, has a share below 1 - alpha^(1/N) (the rule of three), and an accuracy can change
    by -1 to 1 there. Other scores have no such bound: their interval reaches to 0.
    """
    if gain == 0.0:
        return 0.0, 0.0
    if metric != "accuracy":
        return min(gain, 0.0), max(gain, 0.0)
    unseen = 1.0 - alpha ** (1.0 / count)
    return gain * (1 - unseen) - unseen, gain * (1 - unseen) + unseen


def correct_of(probabilities_SNC: Sequence[Floats], labels_N: Integers) -> Floats:
    """Share of seeds that answer each document right (N,)."""
    found = [top_class(each_NC, labels_N)[1] for each_NC in probabilities_SNC]
    share_N: Floats = np.mean(found, axis=0)
    return share_N
