"""What quality costs: the best evaluation of every trial against the tokens that it was trained on,
and the trials that none beats at their price (Pareto's front).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.evaluation.colours import INK, ORANGE
from components.pages import quantities
from components.pages.canvas import (
    best_of,
    canvas,
    direction,
    empty,
    headline,
    legend,
    literal,
    short,
    without_value,
)
from components.pages.label_places import label_points
from components.pages.marks import SHAPES, outcome_legend, trial_colours
from components.pages.ranking import better, ranked, value_of
from components.pages.scale import LOGARITHMIC
from components.pages.values import SearchPage, TrialLine

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANY = 30


def pareto_front(page: SearchPage) -> tuple[TrialLine, ...]:
    """Trials from cheap to dear, each better than all cheaper ones."""
    front: list[TrialLine] = []
    cheapest_first = sorted(
        ranked(page), key=lambda trial: trial.tokens
    )  # stable: of equal cost the better one first
    for trial in cheapest_first:
        value = value_of(trial)
        before = value_of(front[-1]) if front else None
        if value is not None and (before is None or better(page, value, before)):
            front.append(trial)
    return tuple(front)


def cost_and_quality(page: SearchPage) -> "Figure":
    """Best evaluation against tokens, the front marked and named."""
    best = best_of(page)
    better_is = "Down" if page.mode == "min" else "Up"
    figure, axes = canvas(
        _title(page), f"Each mark is a trial. {better_is} is better, to the left is cheaper"
    )
    if best is None:
        return empty(figure, axes, f"No trial was evaluated\n{without_value(page)}")
    shown, front = ranked(page), pareto_front(page)
    _front(axes, front)
    _marks(axes, page, shown, front)
    axes.set(xlabel="tokens trained on", ylabel=literal(short(direction(page), 60)))
    tokens = [trial.tokens for trial in shown]
    if min(tokens) > 0 and max(tokens) / min(tokens) >= LOGARITHMIC:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: quantities.tokens(value))
    if axes.get_xscale() == "log":
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.margins(x=0.1, y=0.12)
    if axes.get_xscale() == "linear":
        axes.set_xlim(left=0)
    legend(figure, [*outcome_legend(page), _front_mark()], note=without_value(page))
    _names(figure, axes, shown, front, below=page.mode == "min")
    return figure


def _title(page: SearchPage) -> str:
    best = best_of(page)
    if best is None:
        return headline(page)
    return f"{headline(page)} for {quantities.tokens(best.tokens)} tokens"


def _front(axes: "Axes", front: Sequence[TrialLine]) -> None:
    """Steps: what the tokens up to here could buy."""
    axes.plot(
        [trial.tokens for trial in front],
        [value_of(trial) or 0.0 for trial in front],
        drawstyle="steps-post",
        color=ORANGE,
        linewidth=2.2,
        zorder=2,
    )


def _front_mark() -> "Artist":
    from matplotlib.lines import Line2D

    return Line2D([], [], color=ORANGE, linewidth=2.2, label="best for its price")


def _marks(
    axes: "Axes", page: SearchPage, shown: Sequence[TrialLine], front: Sequence[TrialLine]
) -> None:
    """Those of the front large and rimmed, the best of all largest."""
    colours, many = trial_colours(page), len(shown) > MANY
    for trial in reversed(shown):
        chosen = trial in front
        axes.plot(
            trial.tokens,
            value_of(trial) or 0.0,
            SHAPES[trial.outcome],
            color=colours[trial.name],
            markersize=15 if trial is shown[0] else 11 if chosen else 6 if many else 9,
            markeredgecolor=INK if chosen else "white",
            markeredgewidth=1.4 if chosen else 0.7,
            zorder=4 if chosen else 3,
            clip_on=False,
        )


def _names(
    figure: "Figure",
    axes: "Axes",
    shown: Sequence[TrialLine],
    front: Sequence[TrialLine],
    *,
    below: bool,
) -> None:
    """Names of the front, the best and the cheapest first, as far as there is room."""
    if len(front) < 3:
        order = list(reversed(front))
    else:
        order = [front[-1], front[0], *reversed(front[1:-1])]
    label_points(
        figure,
        axes,
        [
            (
                trial.tokens,
                value_of(trial) or 0.0,
                f"{short(trial.name, 24)}, {quantities.score(value_of(trial))}",
            )
            for trial in order
        ],
        points=[
            (trial.tokens, value_of(trial) or 0.0)
            for trial in (shown if len(shown) <= MANY else front)
        ],
        below=below,
    )
