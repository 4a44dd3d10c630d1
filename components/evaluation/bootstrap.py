"""Percentile bootstrap over documents: an interval for any number that is computed from a set of documents.

Documents are the unit: values of several seeds on one document must be averaged, or its rows kept together, before they come here.
"""

from collections.abc import Callable

import numpy as np

from components.evaluation.calibration import Floats, Integers

NUM_RESAMPLES = 1000


def bootstrap_interval(
    statistic: Callable[[Integers], float], num_documents: int, *, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of `statistic(rows)`, rows being document indices drawn with replacement (Efron 1979). Deterministic in `seed`."""
    if num_documents < 1:
        raise ValueError(f"an interval needs at least one document, got {num_documents}")
    draw = np.random.default_rng(seed)
    values = [statistic(draw.integers(num_documents, size=num_documents)) for _ in range(num_resamples)]
    low, high = np.quantile(values, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def mean_interval(values_N: Floats, *, level: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of one value per document, for example a paired difference."""
    values_N = np.asarray(values_N, dtype=np.float64)
    return bootstrap_interval(lambda rows: float(values_N[rows].mean()), len(values_N), level=level, num_resamples=num_resamples, seed=seed)
