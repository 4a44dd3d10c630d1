"""A comparison as figures: intervals with the differences that hold, and reliability diagrams side
by side.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluation.comparison import Comparison, ComparisonRow, MethodResult
from components.evaluation.reliability import ReliabilityDiagram, reliability_diagram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Figure, not pyplot: pyplot picks a display backend and keeps every figure alive.
BLUE, RED, GREY, LIGHT, INK = "#2f6690", "#b04030", "#8a949e", "#c9d6e2", "#1c2733"
BETTER, WORSE = "#bfe0cd", "#f2c9c2"
PANELS = (("accuracy", "accuracy, %", False), ("ece", "ECE, % (lower is better)", True))


def plot_intervals(comparison: Comparison, *, title: str) -> "Figure":
    """Per task: accuracy and ECE of every method with both intervals, and who differs from whom in
    accuracy after correction.
    """
    from matplotlib.figure import Figure

    tasks = comparison.tasks
    height = max(len(comparison.of_task(task)) for task in tasks)
    figure = Figure(figsize=(15, 1.4 + len(tasks) * (1.5 + 0.48 * height)), layout="constrained")
    grid = figure.subplots(len(tasks), 3, squeeze=False, width_ratios=(1, 1, 1.15))
    for index, task in enumerate(tasks):
        for column, (score, label, _) in enumerate(PANELS):
            _intervals(grid[index][column], comparison, task, score=score, label=label)
        _differences(grid[index][2], comparison, task)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title, fontweight="bold", color=INK)
    return figure


def _intervals(axes: "Axes", comparison: Comparison, task: str, *, score: str, label: str) -> None:
    rows = comparison.of_task(task)
    documents = comparison.documents[task]
    seeds = max(row.num_seeds for row in rows)
    shown = [(place, row) for place, row in enumerate(rows) if row.num_seeds]
    by_seed = {
        row.method: [100 * seed.scores[score] for seed in _result(comparison, row).seeds]
        for _, row in shown
    }
    for number, (place, row) in enumerate(shown):
        names = _marks_of(comparison.level, seeds) if number == 0 else UNNAMED
        _one_method(axes, place, row, score=score, by_seed=by_seed[row.method], names=names)
    if score == "accuracy":
        axes.axvline(
            100 * documents.majority_accuracy,
            color=GREY,
            linestyle=":",
            label="always the most frequent label",
        )
    # The view follows bars and seeds: an interval of three seeds may run far out of it.
    bars = [100 * end for _, row in shown for end in row.document_intervals[score]]
    bars += [value for found in by_seed.values() for value in found]
    bars += [100 * documents.majority_accuracy] if score == "accuracy" else [0.0]
    if shown:
        margin = 0.05 * (max(bars) - min(bars)) + 0.5
        left = max(0.0, min(bars) - margin) if score == "accuracy" else 0.0
        axes.set_xlim(left, min(100.0, max(bars) + margin))
    measured = score if score != "ece" else "calibration error"
    axes.set_title(f"{task}: {measured} on {documents.count} test documents", fontsize=10)
    axes.set_xlabel(label)
    _method_axis(axes, [row.method for row in rows])


UNNAMED: list[str | None] = [None] * 4


def _marks_of(level: float, seeds: int) -> list[str | None]:
    """What the four marks of a method mean, for the legend."""
    return [
        f"{level:.0%} over test documents (bootstrap)",
        f"{level:.0%} over {seeds} seeds (t)",
        "one seed",
        "mean of seeds",
    ]


def _one_method(
    axes: "Axes",
    place: int,
    row: ComparisonRow,
    *,
    score: str,
    by_seed: list[float],
    names: list[str | None],
) -> None:
    """Both intervals, every seed and the mean of one method, in percent, at one height."""
    interval = row.scores[score]
    ends = [100 * end for end in row.document_intervals[score]]
    axes.plot(ends, [place] * 2, color=LIGHT, linewidth=9, solid_capstyle="butt", label=names[0])
    if interval.low is not None and interval.high is not None:
        over_seeds = [100 * interval.low, 100 * interval.high]
        axes.plot(over_seeds, [place] * 2, color=BLUE, linewidth=1.6, label=names[1])
    axes.plot(by_seed, [place] * len(by_seed), "|", color=INK, markersize=8, label=names[2])
    axes.plot(100 * interval.mean, place, "o", color=BLUE, markersize=6, label=names[3])


def _method_axis(axes: "Axes", methods: list[str]) -> None:
    """One line per method, the first on top."""
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(axis="x", color="#e6eaee")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _differences(axes: "Axes", comparison: Comparison, task: str) -> None:
    """Row minus column in percentage points; coloured where significant after Holm's correction."""
    methods = [row.method for row in comparison.of_task(task)]
    pairs = [pair for pair in comparison.pairs if pair.score == "accuracy"]
    axes.set_xlim(-0.5, len(methods) - 0.5)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    for pair in (pair for pair in pairs if pair.task == task):
        for row, column, sign in ((pair.first, pair.second, 1), (pair.second, pair.first, -1)):
            y, x, points = (
                methods.index(row),
                methods.index(column),
                100 * sign * pair.bootstrap.difference,
            )
            if pair.significant:
                axes.add_patch(_square(x, y, BETTER if points > 0 else WORSE))
            axes.text(
                x,
                y,
                f"{points:+.1f}" + ("" if pair.significant else "\nn.s."),
                ha="center",
                va="center",
                fontsize=9,
                color=INK if pair.significant else GREY,
                fontweight="bold" if pair.significant else None,
            )
    for place in range(len(methods)):
        axes.add_patch(_square(place, place, "#eef1f4"))
    axes.set_xticks(
        range(len(methods)), [name.replace("_", "_\n", 1) for name in methods], fontsize=8
    )
    axes.set_yticks(range(len(methods)), methods)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    level = f"{1 - comparison.level:.0%} level, Holm over {len(pairs)} pairs"
    axes.set_title(
        f"{task}: accuracy of row minus column, points\ncoloured: significant ({level})", fontsize=9
    )


def _square(x: int, y: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (x - 0.5, y - 0.5), 1, 1, facecolor=color, edgecolor="white", linewidth=2, zorder=0
    )


def plot_reliability_grid(comparison: Comparison, *, calibrated: bool, title: str) -> "Figure":
    """One reliability diagram per task and method, side by side on the same axes, the answers of
    all seeds together.

    `calibrated`: after the temperature. The ECE above each is the mean over seeds, as in the table.
    """
    from matplotlib.figure import Figure

    tasks = comparison.tasks
    columns = max(len(comparison.of_task(task)) for task in tasks)
    figure = Figure(figsize=(2.6 * columns + 0.6, 3.3 * len(tasks) + 0.9), layout="constrained")
    grid = figure.subplots(len(tasks), columns, squeeze=False, sharex=True, sharey=True)
    for line, task in zip(grid, tasks, strict=True):
        rows = comparison.of_task(task)
        for axes, row in zip(line, rows, strict=False):
            _reliability(axes, _result(comparison, row), row, comparison, calibrated=calibrated)
        for axes in line[len(rows) :]:
            axes.set_visible(False)
        line[0].set_ylabel(f"{task}\naccuracy in the bin")
    for axes in grid[-1]:
        axes.set_xlabel("confidence of the answer")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(title, fontweight="bold", color=INK)
    return figure


def _reliability(
    axes: "Axes",
    result: MethodResult,
    row: ComparisonRow,
    comparison: Comparison,
    *,
    calibrated: bool,
) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="perfect calibration")
    if not result.seeds:
        axes.text(0.5, 0.5, "no result", ha="center", va="center", color=RED)
        axes.set_title(row.method, fontsize=9)
        return
    diagram = pooled_diagram(result, comparison, calibrated=calibrated)
    width, largest = 1 / diagram.num_bins, max(diagram.count)
    for index, (count, accuracy, confidence) in enumerate(
        zip(diagram.count, diagram.accuracy, diagram.confidence, strict=True)
    ):
        if accuracy is None or confidence is None:
            continue
        axes.bar(
            (index + 0.5) * width,
            accuracy,
            width=width * 0.92,
            color=BLUE,
            alpha=0.25 + 0.75 * (count / largest) ** 0.5,
            label="accuracy (darker: more answers)" if count == largest else None,
        )
        axes.plot(
            confidence,
            accuracy,
            "o",
            color=RED,
            markersize=3,
            label="mean confidence of the bin" if count == largest else None,
        )
    ece = row.scores["calibrated_ece" if calibrated else "ece"]
    half = "" if ece.high is None else f" ± {100 * (ece.high - ece.mean):.1f}"
    axes.set_title(
        f"{row.method}\nECE {100 * ece.mean:.1f}{half} %, {row.num_seeds} seeds", fontsize=9
    )


def pooled_diagram(
    result: MethodResult, comparison: Comparison, *, calibrated: bool
) -> ReliabilityDiagram:
    """The diagram of all seeds' answers together; its own `ece` is of the pooled answers and not
    the mean over seeds.
    """
    labels_N = comparison.documents[result.task].label_ids_N
    answers = [seed.calibrated_NC if calibrated else seed.probabilities_NC for seed in result.seeds]
    return reliability_diagram(np.concatenate(answers), np.tile(labels_N, len(answers)))


def _result(comparison: Comparison, row: ComparisonRow) -> MethodResult:
    return next(
        result
        for result in comparison.results
        if (result.task, result.method) == (row.task, row.method)
    )
