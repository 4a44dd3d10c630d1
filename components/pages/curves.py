"""All learning curves of a search in one picture: who won, who was stopped, and when."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.evaluation.colours import INK
from components.pages import quantities
from components.pages.canvas import (
    canvas,
    direction,
    empty,
    headline,
    legend,
    literal,
    short,
    without_value,
)
from components.pages.label_places import LEADER, spread
from components.pages.marks import NO_VALUE, RING, SHAPES, outcome_legend, ring_mark, trial_colours
from components.pages.ranking import best_first, ranked
from components.pages.values import SearchPage, TrialLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALL_NAMED = 8
"""Up to so many trials each line is named, of more only the best."""
NAMED = 4
FAR_OUT = 8.0
"""Values further from the better half's than so many times its span are cut off, and said to be."""


def learning_curves(page: SearchPage) -> "Figure":
    """The metric of every trial over its optimizer steps, with a mark for how it ended."""
    figure, axes = canvas(headline(page), "Each line is a trial: the darker, the better")
    drawn = [trial for trial in best_first(page) if _points(trial)]
    if not drawn:
        return empty(figure, axes, f"No trial was evaluated\n{without_value(page)}")
    colours = trial_colours(page)
    best = next(iter(ranked(page)), None)
    beyond = _limits(axes, page, drawn)
    for trial in reversed(drawn):
        _line(axes, trial, colours[trial.name], is_best=trial is best, many=len(drawn) > ALL_NAMED)
    axes.set(xlabel="optimizer steps", ylabel=literal(short(direction(page), 60)))
    axes.set_xlim(0, 1.03 * max(step for trial in drawn for step, _ in _points(trial)))
    named = drawn if len(drawn) <= ALL_NAMED else drawn[:NAMED]
    _names(axes, named, colours)
    notes = [f"{beyond} evaluations lie beyond the axis" if beyond else "", without_value(page)]
    marks = [*outcome_legend(page), ring_mark()]
    legend(figure, marks, note="; ".join(note for note in notes if note))
    return figure


def _points(trial: TrialLine) -> list[tuple[int, float]]:
    """Its evaluations that are numbers."""
    return [(each.step, each.value) for each in trial.curve if math.isfinite(each.value)]


def _line(axes: "Axes", trial: TrialLine, colour: str, *, is_best: bool, many: bool) -> None:
    """A line that is broken where the metric was no number, with a mark at its end."""
    steps = [each.step for each in trial.curve]
    values = [each.value if math.isfinite(each.value) else math.nan for each in trial.curve]
    axes.plot(
        steps,
        values,
        color=colour,
        linewidth=3.2 if is_best else 1.1 if many else 1.8,
        alpha=1.0 if is_best or not many else 0.75,
        zorder=4 if is_best else 2,
        marker="." if len(steps) <= 20 and not many else None,
        markersize=4,
    )
    step, value = _points(trial)[-1]
    low, high = axes.get_ylim()
    axes.plot(
        step,
        min(max(value, low), high),
        SHAPES[trial.outcome],
        color=colour,
        markersize=11 if is_best else 6.5 if many else 8.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=5,
        clip_on=False,
    )
    if is_best and trial.best_step is not None and trial.best_value is not None:
        axes.plot(trial.best_step, trial.best_value, zorder=6, clip_on=False, **RING)


def _limits(axes: "Axes", page: SearchPage, drawn: Sequence[TrialLine]) -> int:
    """Cut the axis where a diverging loss would flatten all others; how many values are beyond."""
    values = sorted(value for trial in drawn for _, value in _points(trial))
    if page.mode == "max":
        values = [-value for value in reversed(values)]
    # Now small is good: values[0] is the best.
    middle = values[len(values) // 2]
    span = max(middle - values[0], abs(values[0]) * 0.01, 1e-9)
    limit = middle + FAR_OUT * span
    inside = [value for value in values if value <= limit]
    room = 0.06 * max(inside[-1] - inside[0], abs(inside[0]) * 0.01, 1e-9)
    ends = (inside[0] - room, inside[-1] + room)
    axes.set_ylim(*ends if page.mode == "min" else (-ends[1], -ends[0]))
    return len(values) - len(inside)


def _names(axes: "Axes", trials: Sequence[TrialLine], colours: dict[str, str]) -> None:
    """Names at the right edge, apart from each other, with a thin line to the end of the curve."""
    low, high = axes.get_ylim()
    ends = [_points(trial)[-1] for trial in trials]
    heights = [min(max((value - low) / (high - low), 0.0), 1.0) for _, value in ends]
    right = axes.get_xlim()[1]
    for trial, (step, _), height, place in zip(
        trials, ends, heights, spread(heights, gap=0.06), strict=True
    ):
        axes.plot(
            [step / right, 1.015],
            [height, place],
            transform=axes.transAxes,
            clip_on=False,
            zorder=1,
            **LEADER,
        )
        first = trial is trials[0]
        axes.text(
            1.02,
            place,
            literal(f"{short(trial.name, 26)}  {quantities.score(trial.best_value)}"),
            transform=axes.transAxes,
            va="center",
            fontsize=12 if first else 11,
            fontweight="bold" if first else None,
            color=INK if colours[trial.name] != NO_VALUE else NO_VALUE,
        )
