"""How a trial looks in every picture: its outcome by the shape of its mark, its rank by its colour,
so that one trial has one look everywhere.

Dark is better: viridis from its dark end, without the yellow that a white ground swallows.
"""

from typing import TYPE_CHECKING, Any

from components.evaluation.colours import INK
from components.pages.ranking import outcome_counts, ranked, value_of
from components.pages.values import Outcome, SearchPage

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

SHAPES: dict[Outcome, str] = {
    "completed": "o",
    "stopped": "s",
    "diverged": "X",
    "infeasible": "P",
    "failed": "v",
    "lost": "^",
    "interrupted": "D",
}
"""Matplotlib's markers."""

GLYPHS: dict[Outcome, int] = {
    "completed": 0x25CF,
    "stopped": 0x25A0,
    "diverged": 0x2716,
    "infeasible": 0x271A,
    "failed": 0x25BC,
    "lost": 0x25B2,
    "interrupted": 0x25C6,
}
"""The same shapes as characters, for HTML."""

WORDS: dict[Outcome, str] = {
    "completed": "completed",
    "stopped": "stopped early",
    "diverged": "diverged",
    "infeasible": "infeasible",
    "failed": "failed",
    "lost": "lost",
    "interrupted": "interrupted",
}

RING: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 17,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 1.7,
}
NO_VALUE = "#8a949e"
PALEST = 0.86
"""Where viridis is still seen on white."""


def trial_colours(page: SearchPage) -> dict[str, str]:
    """Name of a trial -> colour as #rrggbb, dark for the best; equal values share one, and grey is
    a trial without a value. A tracker that colours runs by these shows what the pictures show.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    values = list(dict.fromkeys(value_of(trial) for trial in ranked(page)))
    last = max(1, len(values) - 1)
    shades = {
        value: to_hex(colormaps["viridis"](PALEST * place / last))
        for place, value in enumerate(values)
    }
    return {trial.name: shades.get(value_of(trial), NO_VALUE) for trial in page.trials}


def ring_mark() -> "Line2D":
    """What stands round the best evaluation of all."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **RING, label="the best")


def outcome_legend(page: SearchPage, *, size: float = 8) -> "list[Line2D]":
    """One mark for each way in which trials ended, with how many there are."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=SHAPES[outcome],
            markersize=size,
            color="#3b4652",
            label=f"{WORDS[outcome]} ({count})",
        )
        for outcome, count in outcome_counts(page).items()
    ]
