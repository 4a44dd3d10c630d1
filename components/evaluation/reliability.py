"""The reliability diagram: accuracy against confidence, bin by bin, with the number of documents
behind each bar.

The fact a newcomer gets wrong: bars of few documents lie far from the diagonal by chance. So a
diagram carries `ece_if_calibrated`, the ECE that answers with just these confidences would show if
they were right exactly as often as they say, and every bar is drawn with its interval.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from components.evaluation.by_length import ece_if_calibrated
from components.evaluation.calibration import Floats, Integers, ece, equal_width_bins, top_class
from components.evaluation.metrics import accuracy_interval


@dataclass(frozen=True)
class ReliabilityDiagram:
    """One entry per equal-width bin, from low to high confidence; accuracy and confidence (the
    bin's mean) are None in an empty bin. `uncalibrated`: of the same documents at temperature 1.
    That and `ece_if_calibrated` are None where they are not known (records of earlier versions).
    """

    count: tuple[int, ...]
    accuracy: tuple[float | None, ...]
    confidence: tuple[float | None, ...]
    ece: float
    ece_if_calibrated: float | None = None
    uncalibrated: "ReliabilityDiagram | None" = None

    @property
    def num_bins(self) -> int:
        return len(self.count)

    @property
    def intervals(self) -> tuple[tuple[float, float] | None, ...]:
        """Wilson's 95% interval of each bin's accuracy; None in an empty bin. Only of answers to
        different documents: several seeds' answers to one document are no further documents.
        """
        return tuple(
            None if accuracy is None else accuracy_interval(round(accuracy * count), count)
            for accuracy, count in zip(self.accuracy, self.count, strict=True)
        )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def reliability_diagram(
    probabilities: Floats, label_ids: Integers, *, num_bins: int = 15
) -> ReliabilityDiagram:
    """The diagram's numbers for probabilities (N, C) and labels (N,); bins as in `ece`."""
    confidence_N, correct_N = top_class(probabilities, label_ids)
    bins_N = equal_width_bins(confidence_N, num_bins)
    members = [bins_N == index for index in range(num_bins)]
    return ReliabilityDiagram(
        count=tuple(int(member.sum()) for member in members),
        accuracy=tuple(
            float(correct_N[member].mean()) if member.any() else None for member in members
        ),
        confidence=tuple(
            float(confidence_N[member].astype(np.float64).mean()) if member.any() else None
            for member in members
        ),
        ece=ece(confidence_N, correct_N, num_bins=num_bins),
    )


def before_and_after(
    uncalibrated: Floats, calibrated: Floats, label_ids: Integers
) -> ReliabilityDiagram:
    """The diagram of calibrated probabilities (N, C) of N different documents, which holds that of
    the same documents at temperature 1; both with what honest answers would show.
    """
    before, after = (
        replace(
            reliability_diagram(each, label_ids),
            ece_if_calibrated=ece_if_calibrated(top_class(each, label_ids)[0]),
        )
        for each in (uncalibrated, calibrated)
    )
    return replace(after, uncalibrated=before)
