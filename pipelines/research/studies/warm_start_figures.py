"""The figures of the study of warm starts, from its numbers alone."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#606060", "#c0504d", "#1f6fb2", "#4f9a4f", "#8064a2", "#d08b2f")
MEASURES = {"accuracy": "validation accuracy", "nll": "validation NLL, nats"}


def figures(numbers: Mapping[str, Any]) -> "dict[str, Figure]":
    """File name -> figure."""
    return {"warm_and_cold.png": curves(numbers)}


def curves(numbers: Mapping[str, Any]) -> "Figure":
    """Quality over trained tokens: a column for each seed, accuracy above NLL."""
    from matplotlib.figure import Figure

    seeds = numbers["seeds"]
    figure = Figure(figsize=(4.2 * len(seeds) + 0.6, 6.4), layout="constrained")
    panels = figure.subplots(2, len(seeds), squeeze=False, sharex=True, sharey="row")
    for row, (measure, words) in enumerate(MEASURES.items()):
        for column, (seed, found) in enumerate(seeds.items()):
            panel = panels[row][column]
            _one_panel(panel, found, measure)
            if row == 0:
                panel.set_title(f"seed {seed}")
            else:
                panel.set_xlabel("trained tokens, thousands")
        panels[row][0].set_ylabel(words)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    documents = next(iter(seeds.values()))["documents"]
    figure.suptitle(
        f"After {documents['all'] - documents['old']} new documents beside "
        f"{documents['old']} old ones"
    )
    return figure


def _one_panel(panel: "Axes", found: Mapping[str, Any], measure: str) -> None:
    for index, (name, arm) in enumerate(found["arms"].items()):
        points = [{"tokens": 0} | arm["start"], *arm["curve"]]
        if name == "cold" and measure == "nll":
            points = points[1:]  # a head as it is drawn; its NLL would hide the rest
        panel.plot(
            [point["tokens"] / 1000 for point in points],
            [point[measure] for point in points],
            "o-",
            color=COLOURS[index % len(COLOURS)],
            markersize=4,
            linewidth=1.3,
            label=name,
        )
    best = found["champion"]["best"][measure]
    panel.axhline(best, color="#202020", linestyle="--", linewidth=1, label="champion")
    panel.grid(alpha=0.3)
