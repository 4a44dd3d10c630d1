"""Two searched settings as a grid: a cell is a pair of values, with the best of its trials."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from components.evaluation.colours import GREY, INK, LIGHT, ORANGE
from components.pages import quantities
from components.pages.canvas import best_of, canvas, direction, legend, literal, short
from components.pages.marks import NO_VALUE, SHAPES, WORDS, outcome_legend, trial_colours
from components.pages.ranking import best_first, told, value_of
from components.pages.scale import scale_of
from components.pages.values import SearchPage, TrialLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 12
"""More rows or columns leave no room for a number in a cell."""
FILLED = 0.5
"""A grid has at least so many of its cells tried."""


def is_grid(page: SearchPage, paths: Sequence[str]) -> bool:
    """Whether the tried values of these two settings fill a grid that can be read."""
    pairs = {tuple(told(trial.point.get(path)) for path in paths) for trial in page.trials}
    sides = [len({pair[side] for pair in pairs}) for side in (0, 1)]
    complete = all(path in trial.point for trial in page.trials for path in paths)
    return complete and max(sides) <= MOST and len(pairs) >= FILLED * sides[0] * sides[1]


def draw_heat_map(
    page: SearchPage, paths: Sequence[str], names: Mapping[str, str], *, title: str
) -> "Figure":
    """A cell for every pair of values, coloured by rank; the longer side across."""
    figure, axes = canvas(
        title, f"{direction(page)}: the darker, the better; framed: the best; empty: not tried"
    )
    count = [len({told(trial.point[path]) for trial in page.trials}) for path in paths]
    across, up = paths if count[0] >= count[1] else (paths[1], paths[0])
    columns = _order(page, across)
    rows = _order(page, up)
    cells = _cells(page, across, up)
    colours, best = trial_colours(page), best_of(page)
    size = 18 if len(columns) <= 4 else 15 if len(columns) <= 7 else 11
    for (x, y), trials in cells.items():
        place = (columns[x], rows[y])
        _cell(axes, place, trials, colours[trials[0].name], is_best=trials[0] is best, size=size)
    _axes(axes, page, (across, up), (columns, rows), names)
    legend(figure, outcome_legend(page))
    return figure


def _order(page: SearchPage, path: str) -> dict[object, int]:
    """The values of a setting in the order of their scale, numbered."""
    values = {told(trial.point[path]): trial.point[path] for trial in page.trials}
    scale = scale_of(values.values(), side_by_side=MOST)
    ordered = sorted(values, key=lambda key: scale.place(values[key]))
    return {key: place for place, key in enumerate(ordered)}


def _cells(page: SearchPage, across: str, up: str) -> dict[tuple[object, object], list[TrialLine]]:
    """The trials of every pair of values, the best first."""
    cells: dict[tuple[object, object], list[TrialLine]] = {}
    for trial in best_first(page):
        cells.setdefault((told(trial.point[across]), told(trial.point[up])), []).append(trial)
    return cells


def _cell(
    axes: "Axes",
    place: tuple[int, int],
    trials: Sequence[TrialLine],
    colour: str,
    *,
    is_best: bool,
    size: float,
) -> None:
    """The best value large, the mark of its outcome below, a frame round the best of all."""
    from matplotlib.patches import Rectangle

    (x, y), trial, value = place, trials[0], value_of(trials[0])
    known = value is not None
    axes.add_patch(
        Rectangle(
            (x - 0.48, y - 0.46),
            0.96,
            0.92,
            facecolor=colour if known else "white",
            edgecolor=ORANGE if is_best else "white" if known else NO_VALUE,
            linewidth=5 if is_best else 1,
            hatch=None if known else "///",
            zorder=3 if is_best else 2,
        )
    )
    ink = _ink_on(colour) if known else INK
    axes.text(
        x,
        y + 0.13,
        quantities.score(value) if known else WORDS[trial.outcome].split()[0],
        ha="center",
        va="center",
        fontsize=size if known else min(size, 12),
        fontweight="bold" if is_best else None,
        color=ink,
        zorder=4,
        bbox=None if known else {"facecolor": "white", "edgecolor": "none", "pad": 1.5},
    )
    axes.plot(x, y - 0.2, SHAPES[trial.outcome], color=ink, markersize=9, zorder=4)
    if len(trials) > 1:
        axes.text(
            x + 0.1, y - 0.2, f"of {len(trials)}", va="center", fontsize=9, color=ink, zorder=4
        )


def _ink_on(colour: str) -> str:
    """White on dark grounds, ink on light ones."""
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def _axes(
    axes: "Axes",
    page: SearchPage,
    paths: tuple[str, str],
    orders: tuple[dict[object, int], dict[object, int]],
    names: Mapping[str, str],
) -> None:
    axes.grid(False)
    for which, path, order in zip(("x", "y"), paths, orders, strict=True):
        values = {told(trial.point[path]): trial.point[path] for trial in page.trials}
        texts = [literal(short(quantities.setting(values[key]), 16)) for key in order]
        getattr(axes, f"set_{which}ticks")(list(order.values()), texts)
        getattr(axes, f"set_{which}lim")(-0.52, len(order) - 0.48)
        getattr(axes, f"set_{which}label")(literal(short(names[path], 60)))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_facecolor("white")
    for x in range(len(orders[0])):
        for y in range(len(orders[1])):
            axes.plot(x, y, marker=".", color=LIGHT, markersize=3, zorder=1)
    axes.title.set_color(GREY)
