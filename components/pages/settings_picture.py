"""What the searched settings do to the metric, in the form that fits them: one setting as marks
over its values, two as a heat map or as a map of marks, more as parallel coordinates.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from components.pages import quantities
from components.pages.canvas import (
    LONGEST_TITLE,
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
from components.pages.heat_map import draw_heat_map, is_grid
from components.pages.label_places import label_points
from components.pages.marks import RING, SHAPES, outcome_legend, ring_mark, trial_colours
from components.pages.parallel import draw_parallel
from components.pages.ranking import ranked, searched, told, value_of, varied
from components.pages.scale import MISSING, SIDE_BY_SIDE, Scale, number_scale, scale_of
from components.pages.values import SearchPage, TrialLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 6
EACH_NAMED = 30
"""Up to so many marks each has its value beside it."""


def searched_settings(page: SearchPage) -> "Figure":
    """Which values of the searched settings gave which best evaluation."""
    paths = varied(page)
    names = quantities.short_names(searched(page))
    if len(paths) == 2 and is_grid(page, paths):
        return draw_heat_map(page, paths, names, title=title_of(page, paths, names))
    if len(paths) > 2 and ranked(page):
        return draw_parallel(page, paths, names, title=title_of(page, paths, names))
    figure, axes = canvas(title_of(page, paths, names), f"Best {direction(page)} of each trial")
    if not ranked(page) or not paths:
        return empty(figure, axes, _nothing(page, names))
    if len(paths) == 1:
        places = _one_setting(axes, page, paths[0], names)
    else:
        places = _two_settings(axes, page, paths, names)
    legend(figure, [*outcome_legend(page), ring_mark()], note=without_value(page))
    _named(figure, axes, page, places)
    return figure


def title_of(page: SearchPage, paths: Sequence[str], names: Mapping[str, str]) -> str:
    """Where the best trial lies, or its name where that takes too many words."""
    best = best_of(page)
    if best is None:
        return headline(page)
    told_values = ", ".join(
        f"{names[path]}={quantities.setting(best.point[path])}"
        for path in paths or tuple(best.point)
        if path in best.point
    )
    title = f"Best at {told_values}: {quantities.score(value_of(best))}"
    return title if told_values and len(title) <= LONGEST_TITLE else headline(page)


def _nothing(page: SearchPage, names: Mapping[str, str]) -> str:
    """What there is to say where settings cannot be compared."""
    if not ranked(page):
        return f"No trial was evaluated\n{without_value(page)}"
    best = ranked(page)[0]
    lines = [f"{names[path]} = {quantities.setting(value)}" for path, value in best.point.items()]
    told_point = "\n".join(short(line, 60) for line in lines[:MOST_LINES])
    return f"Only one point was tried:\n\n{told_point}\n\ngave {quantities.score(value_of(best))}"


def _one_setting(axes: "Axes", page: SearchPage, path: str, names: Mapping[str, str]) -> "Places":
    """The metric over the values of one setting."""
    scale = scale_of(trial.point.get(path) for trial in page.trials)
    metric = number_scale(
        [value for trial in page.trials if (value := value_of(trial)) is not None],
        text=quantities.score,
    )
    places = [
        (trial, scale.place(trial.point.get(path)), metric.place(value_of(trial)))
        for trial in page.trials
    ]
    _marks(axes, page, places)
    _axis(axes, "x", scale, names[path], any(x == MISSING for _, x, _ in places))
    _axis(axes, "y", metric, page.metric, any(y == MISSING for _, _, y in places))
    return places


def _two_settings(
    axes: "Axes", page: SearchPage, paths: Sequence[str], names: Mapping[str, str]
) -> "Places":
    """A map of marks: the settings are its axes, that with more values across; the metric stands
    beside the marks.
    """
    columns, rows = sorted(
        paths, key=lambda path: -len({told(trial.point.get(path)) for trial in page.trials})
    )
    across, up = (
        scale_of(trial.point.get(path) for trial in page.trials) for path in (columns, rows)
    )
    found = [
        (trial, across.place(trial.point.get(columns)), up.place(trial.point.get(rows)))
        for trial in page.trials
    ]
    places = _apart(found)
    _marks(axes, page, places)
    _axis(axes, "x", across, names[columns], any(x == MISSING for _, x, _ in found))
    _axis(axes, "y", up, names[rows], any(y == MISSING for _, _, y in found))
    return places


Places = Sequence[tuple[TrialLine, float, float]]


def _apart(places: Places) -> Places:
    """Of many marks those of one row a little up and down, so that none hides another: by the
    golden ratio, which never repeats and needs no chance.
    """
    rows = sorted({y for _, _, y in places})
    if len(places) <= EACH_NAMED or len(rows) > SIDE_BY_SIDE:
        return places
    gap = min((above - below for below, above in pairwise(rows)), default=1.0)
    return [
        (trial, x, y + 0.5 * gap * (0.618034 * place % 1 - 0.5))
        for place, (trial, x, y) in enumerate(places)
    ]


def _marks(axes: "Axes", page: SearchPage, places: Places) -> None:
    """Every trial at its place, the best ringed and on top."""
    colours, best = trial_colours(page), best_of(page)
    rank = {trial.name: place for place, trial in enumerate(ranked(page))}
    for trial, x, y in sorted(places, key=lambda each: -rank.get(each[0].name, len(places))):
        known = value_of(trial) is not None
        axes.plot(
            x,
            y,
            SHAPES[trial.outcome],
            color=colours[trial.name],
            markerfacecolor=colours[trial.name] if known else "white",
            markeredgecolor="white" if known else colours[trial.name],
            markersize=13 if len(places) <= EACH_NAMED else 8,
            clip_on=False,
            zorder=3,
        )
        if trial is best:
            axes.plot(x, y, zorder=4, clip_on=False, **(RING | {"markersize": 21}))


def _axis(axes: "Axes", which: str, scale: Scale, name: str, missing: bool) -> None:
    """Ticks and name of one axis, with a place below for trials that have no such value."""
    ticks = [*scale.ticks, *([(MISSING, "none")] if missing else [])]
    getattr(axes, f"set_{which}ticks")(
        [place for place, _ in ticks], [literal(short(text, 18)) for _, text in ticks]
    )
    getattr(axes, f"set_{which}lim")(MISSING - 0.06 if missing else -0.06, 1.06)
    getattr(axes, f"set_{which}label")(literal(short(name, 60)))


def _named(figure: "Figure", axes: "Axes", page: SearchPage, places: Places) -> None:
    """Values beside the marks, the best first, as far as there is room."""
    order = {trial.name: place for place, trial in enumerate(ranked(page))}
    known = sorted(
        (each for each in places if each[0].name in order), key=lambda each: order[each[0].name]
    )
    shown = known if len(known) <= EACH_NAMED else known[:1]
    label_points(
        figure,
        axes,
        [(x, y, quantities.score(value_of(trial))) for trial, x, y in shown],
        points=[(x, y) for _, x, y in places],
    )
