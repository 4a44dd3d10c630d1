"""The figures of the length study, from its numbers alone."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1f6fb2", "#c0504d", "#606060", "#4f9a4f", "#8064a2", "#d08b2f")


def figures(numbers: Mapping[str, Any]) -> "dict[str, Figure]":
    """File name -> figure."""
    made = {
        "needle_by_length.png": by_length(numbers, "needle"),
        "needle_by_depth.png": by_depth(numbers),
        "difference_by_length.png": differences(numbers),
    }
    return (
        made
        if numbers["real"] is None
        else made | {"real_by_length.png": by_length(numbers, "real")}
    )


def by_length(numbers: Mapping[str, Any], part: str) -> "Figure":
    """Accuracy and ECE of every method against document length, with 95% intervals."""
    from matplotlib.figure import Figure

    found, methods = numbers[part], numbers["methods"]
    figure = Figure(figsize=(11, 4.7), layout="constrained")
    accuracy, calibration = figure.subplots(1, 2)
    groups = list(found["by_length"][methods[0]])
    for index, method in enumerate(methods):
        _one_method(accuracy, calibration, found["by_length"][method], index=index, name=method)
    accuracy.axhline(
        found["majority_accuracy"],
        linestyle="--",
        color="#909090",
        label="always the most frequent label",
    )
    accuracy.set(ylabel="accuracy", ylim=(0, 1.02))
    calibration.plot([], [], "x", color="#202020", label="if perfectly calibrated")
    calibration.set(ylabel="ECE (15 bins)")
    calibration.set_ylim(bottom=0)
    first = found["by_length"][methods[0]]
    names = [f"{_name(group)}\n{first[group]['documents']} docs" for group in groups]
    for panel in (accuracy, calibration):
        panel.set_xticks(range(len(groups)), names)
        panel.set_xlabel("tokens of the document")
        panel.grid(axis="y", alpha=0.3)
    if part == "needle" and max(numbers["training_lengths"]) < int(groups[-1]):
        seen = sum(int(group) <= max(numbers["training_lengths"]) for group in groups)
        line: dict[str, Any] = {"color": "#b0b0b0", "linestyle": ":"}
        accuracy.axvline(seen - 0.5, label="longer than any training document", **line)
        calibration.axvline(seen - 0.5, **line)
    _common_legend(figure, accuracy, calibration)
    title = "Needle task" if part == "needle" else "Real documents"
    figure.suptitle(
        f"{title}: accuracy and calibration by document length (95% intervals over documents)"
    )
    return figure


def _one_method(
    accuracy: Any, calibration: Any, values: Mapping[str, Any], *, index: int, name: str
) -> None:
    places = np.arange(len(values)) + 0.08 * (index - 1)
    for panel, measure in ((accuracy, "accuracy"), (calibration, "ece")):
        marks = [group[measure] for group in values.values()]
        _marks(panel, places, marks, _colour(index), name)
    expected = [group["ece_if_calibrated"] for group in values.values()]
    calibration.plot(places, expected, "x", color=_colour(index), markersize=7)


def _common_legend(figure: "Figure", *panels: Any) -> None:
    """One legend below all panels, each name once."""
    entries = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=3,
        fontsize="small",
        frameon=False,
    )


def _colour(method: int) -> str:
    """The colour of a method by its place in the study, the same in every figure."""
    return COLOURS[method % len(COLOURS)]


def _marks(
    panel: "Axes", places: Any, estimates: list[Mapping[str, float]], colour: str, label: str
) -> None:
    middle = [estimate["value"] for estimate in estimates]
    panel.vlines(
        places,
        [estimate["low"] for estimate in estimates],
        [estimate["high"] for estimate in estimates],
        color=colour,
        linewidth=2,
    )
    panel.plot(places, middle, "o-", color=colour, label=label, markersize=5, linewidth=1)


def _name(group: str) -> str:
    return "-".join(f"{int(part):,}" for part in group.split("-"))


def by_depth(numbers: Mapping[str, Any]) -> "Figure":
    """Accuracy by length and depth of the needle, one panel per method."""
    from matplotlib.figure import Figure

    found, methods = numbers["needle"]["by_length_and_depth"], numbers["methods"]
    lengths = list(found[methods[0]])
    depths = list(found[methods[0]][lengths[0]])
    figure = Figure(figsize=(3.6 * len(methods) + 1.2, 3.8), layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True)
    for panel, method in zip(panels, methods, strict=True):
        share = np.array([[found[method][length][depth] for length in lengths] for depth in depths])
        image = panel.imshow(share, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for row, column in np.ndindex(share.shape):
            panel.text(
                column,
                row,
                f"{share[row, column]:.2f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if share[row, column] < 0.6 else "black",
            )
        panel.set_xticks(range(len(lengths)), [f"{int(length):,}" for length in lengths])
        panel.set_yticks(range(len(depths)), [f"{float(depth):.0%}" for depth in depths])
        panel.set(title=method, xlabel="tokens of the document")
    panels[0].set_ylabel("depth of the needle (0% = first)")
    figure.colorbar(image, ax=panels, label="accuracy (0 to 1)")
    figure.suptitle("Needle task: accuracy by document length and depth of the evidence")
    return figure


def differences(numbers: Mapping[str, Any]) -> "Figure":
    """The first method's advantage in accuracy over each other method, by length."""
    from matplotlib.figure import Figure

    parts = [part for part in ("needle", "real") if numbers[part] is not None]
    figure = Figure(figsize=(5.6 * len(parts) + 0.6, 4.6), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for panel, part in zip(panels, parts, strict=True):
        for index, (other, found) in enumerate(numbers[part]["differences"].items()):
            groups = list(found["by_length"])
            trend = found["trend"]
            label = (
                f"minus {other}: {trend['value']:+.3f} ({trend['low']:+.3f} to "
                f"{trend['high']:+.3f}) per doubling"
            )
            _marks(
                panel,
                np.arange(len(groups)) + 0.1 * index,
                [found["by_length"][group]["accuracy"] for group in groups],
                _colour(index + 1),
                label,
            )
        panel.axhline(0, color="#404040", linewidth=1)
        panel.set_xticks(range(len(groups)), [_name(group) for group in groups])
        panel.set(
            xlabel="tokens of the document",
            ylabel="difference in accuracy",
            title="needle task" if part == "needle" else "real documents",
        )
        panel.legend(
            fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False
        )
        panel.grid(axis="y", alpha=0.3)
    figure.suptitle(f"Accuracy of {numbers['methods'][0]} minus the others, paired, 95% intervals")
    return figure
