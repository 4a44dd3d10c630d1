"""Does any class, or any range of document lengths, lose what the whole gains?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from components.evaluation.by_length import NUM_BUCKETS, quantile_edges
from components.evaluation.calibration import Floats, Integers
from components.evaluation.significance import holm


@dataclass(frozen=True)
class SliceGain:
    """Gain in accuracy of the documents of one slice. `p_value`: of a fall by no more than the
    margin, one-sided and corrected over all slices; None where the slice has no documents.
    """

    name: str
    documents: int
    gain: float | None
    p_value: float | None


def slice_gains(
    gains_N: Floats,
    labels_N: Integers,
    lengths_N: Integers,
    *,
    class_names: Sequence[str],
    margin: float,
    length_edges: Sequence[int] | None,
) -> tuple[SliceGain, ...]:
    """Gain per class and per length bucket of documents that gain `gains_N` (-1 to 1) each."""
    members = {
        f"class {name}": gains_N[labels_N == index] for index, name in enumerate(class_names)
    } | {
        name: gains_N[inside_N]
        for name, inside_N in _length_buckets(lengths_N, length_edges).items()
    }
    present = [name for name, gains in members.items() if len(gains)]
    corrected = holm([_chance_of_such_a_fall(members[name], margin) for name in present])
    p_values = dict(zip(present, corrected, strict=True))
    return tuple(
        SliceGain(
            name,
            len(gains),
            float(gains.mean()) if len(gains) else None,
            p_values.get(name),
        )
        for name, gains in members.items()
    )


def _length_buckets(
    lengths_N: Integers, edges: Sequence[int] | None
) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Whether each document is in each bucket."""
    upper = quantile_edges(lengths_N, NUM_BUCKETS) if edges is None else sorted(edges)
    bucket_N = np.searchsorted(np.asarray(upper, dtype=np.int64), lengths_N, side="left")
    starts = [1, *(int(edge) + 1 for edge in upper)]
    ends = [*(str(int(edge)) for edge in upper), ""]
    return {
        f"{start} to {end} tokens" if end else f"{start} tokens and more": bucket_N == index
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
        if edges is not None or (bucket_N == index).any()
    }


def _chance_of_such_a_fall(gains: Floats, margin: float) -> float:
    """One-sided p-value of Student's test that the mean gain is at least -margin."""
    if len(gains) < 2 or gains.mean() >= -margin:
        return 1.0
    if np.ptp(gains) == 0.0:
        # All fall alike. With a mean of -margin, at most (1 + margin) / 2 of gains can be falls.
        return float(((1 + margin) / 2) ** len(gains))
    return float(stats.ttest_1samp(gains, -margin, alternative="less").pvalue)
