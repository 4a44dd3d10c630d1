"""Accuracy and calibration by document length: are long documents answered worse, or with less
honest confidence?

The fact a newcomer gets wrong: an ECE of few documents is far above 0 even where confidences are
perfectly honest. So every bucket carries `ece_if_calibrated`, the ECE that answers with just these
confidences would show on average if they were right exactly as often as they say: only what lies
clearly above it is miscalibration. And a document is as long as it was before anything was cut
off: those beyond max_tokens are told from those that the model saw whole.
Shapes: N documents, C classes. Lengths are in tokens, special tokens included.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from components.evaluation.bootstrap import bootstrap_interval, mean_interval
from components.evaluation.calibration import Floats, Integers, ece, top_class
from components.evaluation.metrics import SMALLEST_PROBABILITY, accuracy_interval

NUM_BUCKETS = 4
SIMULATIONS = 200


@dataclass(frozen=True)
class LengthBucket:
    """Documents of `shortest` to `longest` tokens. Intervals are at 95%: Wilson's for accuracy,
    bootstrap over documents for NLL (nats) and ECE.

    `cut`: how many of them are longer than what the model saw; `cut_at`: the most tokens that it
    saw of one of these, None where there is none. Where `cut` is None nobody counted (records of
    earlier versions): lengths are then those after the cut.
    """

    shortest: int
    longest: int
    documents: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    nll: float
    nll_low: float
    nll_high: float
    ece: float
    ece_low: float
    ece_high: float
    ece_if_calibrated: float
    mean_confidence: float
    cut: int | None = None
    cut_at: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def by_document_length(
    probabilities: Floats,
    label_ids: Integers,
    lengths: Integers,
    *,
    kept: Integers | None = None,
    num_buckets: int = NUM_BUCKETS,
    edges: Sequence[int] | None = None,
) -> tuple[LengthBucket, ...]:
    """Buckets from short to long, of probabilities (N, C), labels (N,) and document lengths (N,) in
    tokens; `kept` (N,): how many of them the model saw.

    By default `num_buckets` quantiles of equal count; equally long documents share a bucket, so
    there can be fewer of them. `edges`: the longest length of every bucket but the last, in place
    of quantiles. Empty buckets are left out. Raises ValueError where the arrays do not belong
    together.
    """
    if (
        lengths.shape != label_ids.shape
        or (kept is not None and kept.shape != lengths.shape)
        or label_ids.shape != probabilities.shape[:1]
        or len(lengths) == 0
    ):
        raise ValueError(
            "buckets need as many lengths as labels and rows of probabilities, got "
            f"{lengths.shape}, {label_ids.shape}, {probabilities.shape}"
        )
    upper = quantile_edges(lengths, num_buckets) if edges is None else sorted(edges)
    bucket_N = np.searchsorted(np.asarray(upper, dtype=np.int64), lengths, side="left")
    members = [np.flatnonzero(bucket_N == index) for index in np.unique(bucket_N)]
    return tuple(
        length_bucket(
            probabilities[rows],
            label_ids[rows],
            lengths[rows],
            kept=None if kept is None else kept[rows],
        )
        for rows in members
    )


def quantile_edges(lengths_N: Integers, num_buckets: int) -> list[int]:
    """The longest length of every bucket but the last, so that buckets hold equally many documents
    as far as equal lengths allow.
    """
    ordered_N = np.sort(lengths_N)
    last_rows = [len(ordered_N) * part // num_buckets - 1 for part in range(1, num_buckets)]
    return sorted({int(ordered_N[row]) for row in last_rows if row >= 0} - {int(ordered_N[-1])})


def length_bucket(
    probabilities_NC: Floats,
    label_ids_N: Integers,
    lengths_N: Integers,
    *,
    kept: Integers | None = None,
) -> LengthBucket:
    """One bucket of all these documents; `kept` as of `by_document_length`."""
    confidence_N, correct_N = top_class(probabilities_NC, label_ids_N)
    of_label_N = probabilities_NC[np.arange(len(label_ids_N)), label_ids_N].astype(np.float64)
    nll_N = -np.log(np.maximum(of_label_N, SMALLEST_PROBABILITY))
    right, total = int(correct_N.sum()), len(label_ids_N)
    accuracy_low, accuracy_high = accuracy_interval(right, total)
    nll_low, nll_high = mean_interval(nll_N)
    ece_low, ece_high = bootstrap_interval(
        lambda rows: ece(confidence_N[rows], correct_N[rows]), total, least=0.0
    )
    return LengthBucket(
        shortest=int(lengths_N.min()),
        longest=int(lengths_N.max()),
        documents=total,
        accuracy=right / total,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        nll=float(nll_N.mean()),
        nll_low=nll_low,
        nll_high=nll_high,
        ece=ece(confidence_N, correct_N),
        ece_low=ece_low,
        ece_high=ece_high,
        ece_if_calibrated=ece_if_calibrated(confidence_N),
        mean_confidence=float(confidence_N.astype(np.float64).mean()),
        **({} if kept is None else _cut_of(lengths_N, kept)),
    )


def _cut_of(lengths_N: Integers, kept_N: Integers) -> dict[str, int | None]:
    """How many documents were cut, and where."""
    seen = kept_N[kept_N < lengths_N]
    return {"cut": len(seen), "cut_at": int(seen.max()) if len(seen) else None}


def ece_if_calibrated(
    confidence: Floats, *, simulations: int = SIMULATIONS, seed: int = 0
) -> float:
    """Mean ECE of answers with these confidences (N,), each right with just that probability: what
    the number of documents alone puts into an ECE.

    (R, N): answers of R seeds to the same documents, which are right and wrong together; more seeds
    are no further documents.
    """
    draw = np.random.default_rng(seed)
    num_documents = confidence.shape[-1]
    return float(
        np.mean(
            [
                ece(confidence.ravel(), (draw.random(num_documents) < confidence).ravel())
                for _ in range(simulations)
            ]
        )
    )
