"""Bootstrap over documents: an interval for any number that is computed from a set of documents.

Documents are the unit: values of several seeds on one document must be averaged, or its rows kept
together, before they come here. The fact a newcomer gets wrong: a resample holds documents twice,
which raises its ECE above that of the sample, so that plain percentiles can leave out the estimate
itself. All intervals here are moved to it.
"""

import math
from collections.abc import Callable

import numpy as np

from components.evaluation.calibration import Floats, Integers

NUM_RESAMPLES = 1000


def bootstrap_interval(
    statistic: Callable[[Integers], float],
    num_documents: int,
    *,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    least: float = -math.inf,
) -> tuple[float, float]:
    """Interval of `statistic(rows)`, rows being document indices drawn with replacement (Efron
    1979). `least`: the smallest value that it can take. Deterministic in `seed`.
    """
    if num_documents < 1:
        raise ValueError(f"an interval needs at least one document, got {num_documents}")
    draw = np.random.default_rng(seed)
    values_R = np.array(
        [statistic(draw.integers(num_documents, size=num_documents)) for _ in range(num_resamples)]
    )
    return interval_around(statistic(np.arange(num_documents)), values_R, level=level, least=least)


def mean_interval(
    values_N: Floats, *, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Interval of the mean of one value per document, for example a paired difference."""
    values_N = np.asarray(values_N, dtype=np.float64)
    return bootstrap_interval(
        lambda rows: float(values_N[rows].mean()),
        len(values_N),
        level=level,
        num_resamples=num_resamples,
        seed=seed,
    )


def interval_around(
    estimate: float,
    values_R: Floats,
    *,
    level: float,
    least: float = -math.inf,
    most: float = math.inf,
) -> tuple[float, float]:
    """Percentiles of resampled values, moved so that their mean is the estimate, which they hold,
    and within what the score can be (`least` to `most`).
    """
    low, high = np.quantile(values_R, [0.5 - level / 2, 0.5 + level / 2]) + (
        estimate - values_R.mean()
    )
    return max(min(float(low), estimate), least), min(max(float(high), estimate), most)
