"""Three or more searched settings at once: an axis for each, the metric as the last one, and a line
for every trial. Of many trials only the best tenth has colour: what these share is what counts.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.evaluation.colours import GREY, INK, SILVER
from components.pages import quantities
from components.pages.canvas import (
    SIZE,
    canvas,
    direction,
    legend,
    literal,
    short,
    without_value,
)
from components.pages.marks import SHAPES, outcome_legend, trial_colours
from components.pages.ranking import best_first, ranked, value_of
from components.pages.scale import MISSING, Scale, number_scale, scale_of
from components.pages.values import SearchPage, TrialLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES_PER_AXIS = 1.75
ALL_COLOURED = 30
SHARE_COLOURED = 0.1


def draw_parallel(
    page: SearchPage, paths: Sequence[str], names: Mapping[str, str], *, title: str
) -> "Figure":
    """Lines from value to value, and at the end the metric; the better, the darker, the higher."""
    coloured = _coloured(page)
    said = (
        "the darker, the better"
        if len(coloured) == len(page.trials)
        else f"the best {len(coloured)} in colour"
    )
    figure, axes = canvas(
        title,
        f"Each line is a trial, {said}; last axis: {direction(page)}",
        size=(max(SIZE[0], INCHES_PER_AXIS * (len(paths) + 1)), SIZE[1]),
    )
    scales = [scale_of(trial.point.get(path) for trial in page.trials) for path in paths]
    scales.append(_metric_scale(page))
    worst_first = tuple(reversed(best_first(page)))
    lines = [
        [scale.place(value) for scale, value in zip(scales, _values(trial, paths), strict=True)]
        for trial in worst_first
    ]
    for trial, heights in zip(worst_first, lines, strict=True):
        _line(axes, trial, heights, coloured.get(trial.name), is_best=trial is worst_first[-1])
    texts = [*(names[path] for path in paths), page.metric]
    for place, (scale, text) in enumerate(zip(scales, texts, strict=True)):
        _axis(axes, place, scale, text, missing=any(line[place] == MISSING for line in lines))
    _best_value(axes, worst_first[-1], lines[-1])
    lowest = min(height for line in lines for height in line)
    axes.set(xlim=(-0.4, len(paths) + 0.45), ylim=(min(lowest, 0) - 0.06, 1.13))
    axes.set_axis_off()
    legend(figure, outcome_legend(page), note=without_value(page))
    return figure


def _coloured(page: SearchPage) -> dict[str, str]:
    """The trials whose line has a colour, with it."""
    colours = trial_colours(page)
    if len(page.trials) <= ALL_COLOURED:
        return colours
    count = max(5, round(SHARE_COLOURED * len(page.trials)))
    return {trial.name: colours[trial.name] for trial in ranked(page)[:count]}


def _values(trial: TrialLine, paths: Sequence[str]) -> list[Any]:
    return [*(trial.point.get(path) for path in paths), value_of(trial)]


def _metric_scale(page: SearchPage) -> Scale:
    """The better, the higher."""
    measured = [value for trial in ranked(page) if (value := value_of(trial)) is not None]
    scale = number_scale(measured, text=quantities.score)
    if page.mode == "max":
        return scale

    def place(value: float | None) -> float:
        return MISSING if value is None else 1.0 - scale.place(value)

    return Scale(place, tuple((1.0 - at, text) for at, text in scale.ticks))


def _line(
    axes: "Axes",
    trial: TrialLine,
    heights: Sequence[float],
    colour: str | None,
    *,
    is_best: bool,
) -> None:
    known = value_of(trial) is not None
    axes.plot(
        range(len(heights)),
        heights,
        color=colour or SILVER,
        linewidth=4 if is_best else 1.8 if colour else 0.7,
        alpha=1.0 if colour else 0.45,
        linestyle="-" if known else ":",
        zorder=4 if is_best else 3 if colour else 2,
    )
    axes.plot(
        len(heights) - 1,
        heights[-1],
        SHAPES[trial.outcome],
        color=colour or SILVER,
        markerfacecolor=(colour or SILVER) if known else "white",
        markeredgecolor="white" if known else GREY,
        markersize=13 if is_best else 8 if colour else 5,
        zorder=5 if colour else 2,
    )


def _axis(axes: "Axes", place: int, scale: Scale, name: str, *, missing: bool) -> None:
    """A line upwards with its ticks at its left and its name above."""
    axes.plot([place, place], [0, 1], color=GREY, linewidth=1.2, zorder=3)
    ticks = [*scale.ticks, *([(MISSING, "none")] if missing else [])]
    for height, text in ticks:
        axes.text(
            place - 0.04,
            height,
            literal(short(text, 14)),
            ha="right",
            va="center",
            fontsize=11.5,
            color=INK,
            zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8},
        )
    axes.text(
        place,
        1.06,
        literal(short(name, 20)),
        ha="center",
        va="bottom",
        fontsize=12.5,
        fontweight="bold",
        color=INK,
    )


def _best_value(axes: "Axes", best: TrialLine, heights: Sequence[float]) -> None:
    axes.text(
        len(heights) - 1 + 0.07,
        heights[-1],
        quantities.score(value_of(best)),
        va="center",
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
