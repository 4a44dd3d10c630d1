"""Labels that do not lie on each other: where there is no room, the less important is left out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from components.evaluation.colours import GREY, INK
from components.pages.canvas import literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

AROUND = ((0, 12), (12, 8), (-12, 8), (13, 0), (-13, 0), (0, -12), (12, -8), (-12, -8))
"""Offsets in points that are tried, first the one above."""
EDGE = 6
"""Pixels that stay free at the figure's edge."""


def spread(heights: Sequence[float], *, gap: float) -> list[float]:
    """The same heights, moved as little as it takes to be `gap` apart, within 0 and 1 as long as
    there is room.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    gap = min(gap, 1 / max(1, len(heights) - 1))
    found = [0.0] * len(heights)
    below = -gap
    for index in order:
        below = found[index] = max(heights[index], below + gap, 0.0)
    above = 1.0 + gap
    for index in reversed(order):
        above = found[index] = min(found[index], above - gap)
    return found


def label_points(
    figure: "Figure",
    axes: "Axes",
    labels: Sequence[tuple[float, float, str]],
    *,
    points: Sequence[tuple[float, float]] = (),
    below: bool = False,
) -> int:
    """Write (x, y, text) beside their points, the most important first, each where it covers
    neither another label nor one of `points`; returns how many there was room for. `below`: rather
    below a point than above it.
    """
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # only now the axes have their place
    pixels = figure.dpi / 72
    dots = [
        Bbox.from_bounds(x - 4 * pixels, y - 4 * pixels, 8 * pixels, 8 * pixels)
        for x, y in axes.transData.transform(list(points) or [(0, 0)])
    ]
    taken: list[Bbox] = dots if points else []
    written = 0
    for x, y, text in labels:
        written += _label(figure, axes, (x, y), text, taken, up_is=-1 if below else 1)
    return written


def _label(
    figure: "Figure",
    axes: "Axes",
    place: tuple[float, float],
    text: str,
    taken: "list[Bbox]",
    *,
    up_is: int,
) -> bool:
    """Whether there was room; `taken` gets what the label covers."""
    frame, page = axes.get_window_extent(), figure.bbox
    for right, up in ((across, up_is * along) for across, along in AROUND):
        label = axes.annotate(
            literal(text),
            place,
            xytext=(right, up),
            textcoords="offset points",
            ha="left" if right > 0 else "right" if right < 0 else "center",
            va="bottom" if up > 0 else "top" if up < 0 else "center",
            fontsize=11,
            color=INK,
            annotation_clip=False,
            zorder=7,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
        )
        label.set_in_layout(False)
        box = label.get_window_extent()
        inside = frame.x0 <= box.x0 and box.x1 <= page.x1 - EDGE and box.y1 <= frame.y1 + 14
        if inside and box.y0 >= frame.y0 and not any(box.overlaps(other) for other in taken):
            taken.append(box)
            return True
        label.remove()
    return False


LEADER: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": ":"}
"""The line from a point to a label that had to stand apart."""
