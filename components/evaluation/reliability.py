"""The reliability diagram: accuracy against confidence, bin by bin, with the number of documents
behind each bar.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluation.calibration import Floats, Integers, ece, equal_width_bins, top_class

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ReliabilityDiagram:
    """One entry per equal-width bin, from low to high confidence; accuracy and confidence (the
    bin's mean) are None in an empty bin.
    """

    count: tuple[int, ...]
    accuracy: tuple[float | None, ...]
    confidence: tuple[float | None, ...]
    ece: float

    @property
    def num_bins(self) -> int:
        return len(self.count)

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


def plot_reliability(diagram: ReliabilityDiagram, *, title: str) -> "Figure":
    """A matplotlib figure: bars of accuracy, the mean confidence of each bin as a mark, the
    diagonal of perfect calibration, and document counts below.
    """
    # Figure, not pyplot: pyplot picks a display backend and keeps every figure alive.
    from matplotlib.figure import Figure

    width = 1 / diagram.num_bins
    centres = [(index + 0.5) * width for index in range(diagram.num_bins)]
    figure = Figure(figsize=(5, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(
        centres,
        [value or 0.0 for value in diagram.accuracy],
        width=width,
        edgecolor="white",
        color="#4878a8",
        label="accuracy",
    )
    seen = [
        (confidence, accuracy)
        for confidence, accuracy in zip(diagram.confidence, diagram.accuracy, strict=True)
        if confidence is not None
    ]
    above.plot(
        [point[0] for point in seen],
        [point[1] for point in seen],
        "o",
        color="#b04030",
        markersize=4,
        label="mean confidence of the bin",
    )
    above.plot([0, 1], [0, 1], "--", color="#808080", linewidth=1, label="perfect calibration")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"{title}: ECE {diagram.ece:.3f}")
    above.legend(loc="upper left", fontsize="small")
    below.bar(centres, diagram.count, width=width, edgecolor="white", color="#a0a0a0")
    below.set(xlabel="confidence of the answer", ylabel="documents")
    return figure
