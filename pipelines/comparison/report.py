"""From finished cells to tables, figures and files: what a comparison's run and its folder hold."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import resolved
from components.config.comparison import ComparisonConfig
from components.evaluation import classification_metrics, softmax
from components.evaluation.comparison import (
    Comparison,
    MethodResult,
    SeedResult,
    TaskDocuments,
    compare_results,
)
from components.evaluation.comparison_plots import plot_intervals, plot_reliability_grid
from components.evaluation.comparison_tables import (
    as_csv,
    as_html,
    as_latex,
    as_markdown,
    pairs_as_csv,
    tables,
)
from components.jobs.record import JobRecord
from pipelines.comparison.cells import Cell, read_predictions
from pipelines.comparison.schedule import Schedule

if TYPE_CHECKING:
    from components.data import PreparedData

FIGURES = ("intervals.png", "reliability.png", "reliability_calibrated.png")
DOTS_PER_INCH = 130


def collect(schedule: Schedule, data: "Mapping[str, PreparedData]") -> Comparison:
    """Means, intervals and pairs of all cells that there are."""
    config = schedule.config
    splits = {task: data[task].splits["test"] for task in config.tasks}
    documents = {
        task: TaskDocuments(split.label_ids, split.lengths) for task, split in splits.items()
    }
    results = [_result(schedule, task, method) for task, method in schedule.pairs()]
    return compare_results(results, documents, level=config.level, resamples=config.resamples)


def _result(schedule: Schedule, task: str, method: str) -> MethodResult:
    point, cells = schedule.chosen(task, method), schedule.final_cells(task, method)
    finished = [
        (cell, record)
        for cell in cells
        if (record := schedule.records.get(cell.key)) is not None and record.final is not None
    ]
    first = finished[0][1] if finished else None
    head = None if first is None or first.final is None else first.final.head_parameters
    return MethodResult(
        task=task,
        method=method,
        point=point or {},
        seeds=tuple(_seed(cell, record, schedule.config) for cell, record in finished),
        own_parameters=None
        if first is None or head is None or first.trainable_parameters is None
        else first.trainable_parameters - head,
        head_parameters=head,
        problem="; ".join(schedule.problems(task, method)),
    )


def _seed(cell: Cell, record: JobRecord, config: ComparisonConfig) -> SeedResult:
    arrays = read_predictions(cell)
    logits_NC, labels_N = arrays["test_logits"], arrays["test_label_ids"]
    before, after = softmax(logits_NC), softmax(logits_NC, temperature=float(arrays["temperature"]))
    calibrated = {
        f"calibrated_{name}": value
        for name, value in classification_metrics(after, labels_N).items()
    }
    cluster, progress = config.cluster, record.progress
    devices = cluster.num_workers * (cluster.gpus_per_worker or cluster.cpus_per_worker)
    costs = {
        "tokens_per_second": progress.tokens_per_second,
        "seconds": progress.seconds,
        "core_hours": progress.seconds * devices / 3600,
    }
    if record.peak_memory_bytes is not None:
        costs["peak_memory_bytes"] = float(record.peak_memory_bytes)
    return SeedResult(
        cell.seed, classification_metrics(before, labels_N) | calibrated, costs, before, after
    )


def write_results(
    comparison: Comparison, config: ComparisonConfig, output: Path, *, facts: Mapping[str, Any]
) -> None:
    """Write everything into `output`: comparison.md, .html, .tex, .csv and .json, pairs.csv, the
    figures, config.json and facts.json (versions, machine, wall time).
    """
    output.mkdir(parents=True, exist_ok=True)
    found = tables(comparison)
    texts = {
        "comparison.md": as_markdown(found, title=config.name),
        "comparison.html": as_html(found, title=config.name, images=FIGURES),
        "comparison.tex": as_latex(found),
        "comparison.csv": as_csv(comparison),
        "pairs.csv": pairs_as_csv(comparison),
        "config.json": json.dumps(resolved(config), indent=2) + "\n",
        "facts.json": json.dumps(facts, indent=2) + "\n",
        "comparison.json": json.dumps([asdict(row) for row in comparison.rows], indent=2) + "\n",
    }
    for name, text in texts.items():
        (output / name).write_text(text, encoding="utf-8")
    figures = (
        plot_intervals(comparison, title=config.name),
        plot_reliability_grid(
            comparison,
            calibrated=False,
            title=f"{config.name}: reliability of the answers as trained",
        ),
        plot_reliability_grid(
            comparison,
            calibrated=True,
            title=f"{config.name}: reliability after temperature scaling",
        ),
    )
    for name, figure in zip(FIGURES, figures, strict=True):
        figure.savefig(output / name, dpi=DOTS_PER_INCH)
