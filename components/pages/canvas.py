"""The frame that the pictures of a search share: the message as title, what is seen below it, few
lines, and texts large enough to be read at half size.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.evaluation.colours import GREY, INK, LIGHT
from components.pages import quantities
from components.pages.ranking import ranked, value_of
from components.pages.values import SearchPage, TrialLine

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (10.5, 6.2)
"""Inches; at 100 dots each half of a screen of 1600 x 1000 holds one picture."""
LONGEST_NAME = 34
LONGEST_TITLE = 84
LONGEST_SUBTITLE = 120
LONGEST_NOTE = 130
MOST_IN_A_LINE = 6
LINE = 62
NAMED_WITHOUT_VALUE = 3


def canvas(title: str, subtitle: str, *, size: tuple[float, float] = SIZE) -> "tuple[Figure, Axes]":
    """An empty picture with its message, ready to be drawn into."""
    # Figure, not pyplot: pyplot picks a display backend and keeps every figure alive.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots()
    figure.suptitle(
        literal(short(title, LONGEST_TITLE)),
        x=0.012,
        ha="left",
        fontsize=16,
        fontweight="bold",
        color=INK,
    )
    axes.set_title(
        literal(short(subtitle, LONGEST_SUBTITLE)), loc="left", fontsize=11.5, color=GREY, pad=12
    )
    axes.tick_params(labelsize=11.5, colors=INK)
    axes.xaxis.label.set(fontsize=12.5, color=INK)
    axes.yaxis.label.set(fontsize=12.5, color=INK)
    axes.grid(color=LIGHT)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    return figure, axes


def short(text: str, longest: int = LONGEST_NAME) -> str:
    """A text in one line, and not longer than there is room for."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= longest else line[: longest - 3].rstrip() + "..."


def literal(text: str) -> str:
    """A text that matplotlib shows letter by letter: what stands between dollars is no formula."""
    return text.replace("$", r"\$")


def best_of(page: SearchPage) -> TrialLine | None:
    return next(iter(ranked(page)), None)


def headline(page: SearchPage) -> str:
    """The best trial and its value, or that there is none."""
    best = best_of(page)
    if best is None:
        return f"No trial of {len(page.trials)} has a result"
    return f"Best: {short(best.name)}, {quantities.score(value_of(best))}"


def direction(page: SearchPage) -> str:
    """The metric and which way it is better."""
    return f"{page.metric} ({'lower' if page.mode == 'min' else 'higher'} is better)"


def legend(figure: "Figure", handles: "Sequence[Artist]", *, note: str = "") -> None:
    """Below the picture, from left to right in one line or two; `note` stands above it."""
    lines = math.ceil(len(handles) / MOST_IN_A_LINE)
    columns = math.ceil(len(handles) / lines)
    # Matplotlib fills columns; people read lines.
    by_column = [each for start in range(columns) for each in handles[start::columns]]
    made = figure.legend(
        handles=by_column,
        loc="outside lower left",
        ncols=columns,
        fontsize=11.5,
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.5,
        title=literal(short(note, LONGEST_NOTE)),
        title_fontproperties={"size": 11},
        alignment="left",
    )
    made.get_title().set_color(GREY)


def without_value(page: SearchPage) -> str:
    """Who is missing in a picture of values, and why; empty where nobody is."""
    missing = [trial for trial in page.trials if value_of(trial) is None]
    if not missing:
        return ""
    named = [f"{short(each.name, 26)} ({each.outcome})" for each in missing[:NAMED_WITHOUT_VALUE]]
    more = len(missing) - len(named)
    return f"without a value: {', '.join(named)}" + (f" and {more} more" if more else "")


def empty(figure: "Figure", axes: "Axes", text: str) -> "Figure":
    """A picture that has nothing to show says why."""
    axes.set_axis_off()
    axes.text(
        0.5,
        0.5,
        literal("\n".join(textwrap.fill(line, LINE) for line in text.split("\n"))),
        transform=axes.transAxes,
        ha="center",
        va="center",
        fontsize=16,
        linespacing=1.4,
        color=INK,
    )
    return figure
