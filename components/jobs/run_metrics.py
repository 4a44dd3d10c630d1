"""Which numbers of a training are curves and which stand in a file of its run.

MLflow draws every metric of a run: thirty single dots hide the loss. So a run has the curves that
its task names, what the training itself reports, and the few numbers that trials are sorted by; all
else stands in evaluations.json and final.json.
"""

from collections.abc import Mapping
from typing import Any

from components.jobs.summary import TrialSummary
from components.tasks import task_named

AXIS = "step"
"""Reported among the metrics, and MLflow's axis already."""
MEBIBYTE = 2**20
DIGITS = 4
"""Significant ones, of numbers that stand in a column: a thousand documents tell no more."""


def best_name(metric: str) -> str:
    """`best_accuracy` of validation/accuracy: the telling part first, because columns are
    narrow.
    """
    return f"best_{metric.rpartition('/')[2]}"


def curves(metrics: Mapping[str, float], *, task: str, deciding: str) -> dict[str, float]:
    """What of an evaluation is drawn over steps. Whatever is reported outside of `validation/` is;
    of the task's own metrics those that it names, and the one that decides.
    """
    named = {f"validation/{name}" for name in task_named(task).curves} | {deciding}
    return {
        name: value
        for name, value in metrics.items()
        if name != AXIS and (name in named or not name.startswith("validation/"))
    }


def final_numbers(metrics: Mapping[str, float], *, task: str) -> dict[str, float]:
    """What of a final evaluation is a metric of the run: the task's telling one on all test
    documents, with its interval, and on all validation documents; the others as they are answered,
    calibrated where the task calibrates.
    """
    first, *_ = names = task_named(task).curves
    wanted = {f"test/{first}", f"test/{first}_low", f"test/{first}_high", f"validation_all/{first}"}
    for name in names:
        calibrated = f"test_calibrated/{name}"
        wanted.add(calibrated if calibrated in metrics else f"test/{name}")
    return rounded({name: value for name, value in metrics.items() if name in wanted})


def rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    """To as many digits as are read; files keep them all."""
    return {name: float(f"{value:.{DIGITS}g}") for name, value in metrics.items()}


def at_the_end(summary: TrialSummary, metric: str) -> list[tuple[int, dict[str, float]]]:
    """(step, metrics) that are known once a trial has ended: its best, and what it took where that
    is more than its last evaluation told.
    """
    found: list[tuple[int, dict[str, float]]] = []
    if summary.best_step is not None:
        best = {best_name(metric): summary.best_metrics[metric]}
        found.append((summary.best_step, rounded(best)))
    last = summary.rungs[-1][1] if summary.rungs else -1
    if summary.step > last:
        cost = {"tokens": float(summary.tokens), "seconds": summary.seconds}
        found.append((summary.step, cost))
    if summary.peak_memory_bytes is not None:
        found.append((summary.step, {"peak_memory_mib": summary.peak_memory_bytes // MEBIBYTE}))
    return found


def evaluations(summary: TrialSummary, metric: str) -> dict[str, Any]:
    """A trial's evaluations with all their metrics, JSON-able."""
    return {
        "metric": metric,
        "best_evaluation": summary.best_evaluation,
        "evaluations": [
            {"evaluation": number, "step": step} | dict(metrics)
            for (number, step, _), metrics in zip(summary.rungs, summary.history, strict=True)
        ],
    }
