"""The reliability diagram as a figure: before calibration on the left, after it on the right, and
what chance alone makes of so few documents.
"""

from typing import TYPE_CHECKING

from components.evaluation.colours import BLUE, GREY, INK, LIGHT, SILVER, SKY, VERMILION
from components.evaluation.reliability import ReliabilityDiagram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 10
"""Fewer documents than this say little: the interval of 5 right of 10 is 0.24 to 0.76."""
ROOM = 0.03
"""Beyond 0 and 1, so that no mark is cut by the frame."""


def plot_reliability(diagram: ReliabilityDiagram, *, title: str) -> "Figure":
    """A matplotlib figure: accuracy against confidence with 95% intervals, few documents hatched,
    and document counts below; in two columns where the diagram knows the answers at temperature 1.
    """
    # Figure, not pyplot: pyplot picks a display backend and keeps every figure alive.
    from matplotlib.figure import Figure

    before = diagram.uncalibrated
    shown = [("", diagram)]
    if before is not None:
        shown = [
            ("before calibration (temperature 1)\n", before),
            ("after calibration\n", diagram),
        ]
    figure = Figure(figsize=(5.4 * len(shown) + 0.8, 6.6), layout="constrained")
    grid = figure.subplots(
        2, len(shown), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
    )
    for column, (moment, each) in enumerate(shown):
        _accuracy(grid[0][column], each)
        grid[0][column].set_title(f"{moment}{_said(each)}", fontsize=11, color=INK)
        _counts(grid[1][column], each)
    grid[0][0].set_ylabel("accuracy")
    grid[1][0].set_ylabel("documents")
    _legend(figure, diagram)
    figure.suptitle(title, color=INK)
    return figure


def _said(diagram: ReliabilityDiagram) -> str:
    floor = diagram.ece_if_calibrated
    if floor is None:
        return f"ECE {diagram.ece:.3f}"
    return f"ECE {diagram.ece:.3f}; perfectly calibrated would show {floor:.3f}"


def _accuracy(axes: "Axes", diagram: ReliabilityDiagram) -> None:
    """Bars, their intervals, and a mark at the bin's mean confidence."""
    width = 1 / diagram.num_bins
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
    bins = zip(diagram.count, diagram.accuracy, diagram.confidence, diagram.intervals, strict=True)
    for place, (count, accuracy, confidence, interval) in enumerate(bins):
        if accuracy is None or confidence is None or interval is None:
            continue
        few = count < FEW
        axes.bar(
            (place + 0.5) * width,
            accuracy,
            width=0.92 * width,
            color="white" if few else SKY,
            edgecolor=SILVER if few else SKY,
            hatch="////" if few else None,
        )
        axes.errorbar(
            confidence,
            accuracy,
            yerr=[[accuracy - interval[0]], [interval[1] - accuracy]],
            fmt="o",
            color=VERMILION if few else BLUE,
            markerfacecolor="white" if few else BLUE,
            markersize=5,
            elinewidth=1.2,
            capsize=2.5,
        )
    axes.set(xlim=(-ROOM, 1 + ROOM), ylim=(-ROOM, 1 + ROOM))
    _plain(axes)


def _counts(axes: "Axes", diagram: ReliabilityDiagram) -> None:
    width = 1 / diagram.num_bins
    centres = [(place + 0.5) * width for place in range(diagram.num_bins)]
    bars = axes.bar(centres, diagram.count, width=0.92 * width, color=SILVER)
    axes.bar_label(bars, [str(count) if count else "" for count in diagram.count], fontsize=8)
    axes.set_xlabel("confidence of the answer")
    axes.margins(y=0.2)
    _plain(axes)


def _plain(axes: "Axes") -> None:
    axes.grid(axis="y", color=LIGHT)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _legend(figure: "Figure", diagram: ReliabilityDiagram) -> None:
    """One below all panels, only of what is in them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = [each for each in (diagram, diagram.uncalibrated) if each is not None]
    handles: dict[str, Line2D | Patch] = {
        "accuracy, with its 95% interval": Line2D(
            [], [], color=BLUE, marker="o", linestyle="-", linewidth=1.2
        ),
        "perfect calibration": Line2D([], [], color=GREY, linestyle="--", linewidth=1),
    }
    if any(0 < count < FEW for each in shown for count in each.count):
        few = Patch(facecolor="white", edgecolor=SILVER, hatch="////")
        handles[f"fewer than {FEW} documents: says little"] = few
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=3 if len(shown) > 1 else 1,
        frameon=False,
    )
