"""From a job's life to a run."""

import json
from pathlib import Path

from components.config import TrainConfig, validate
from components.jobs.events import Evaluated, Reused, Trained
from components.jobs.run_writer import RunWriter
from components.jobs.summary import TrialSummary
from components.jobs.trial import Trial
from components.registry.memory_tracker import MemoryRun, MemoryTracker
from components.training.outcomes import Progress, Report

CONFIG = validate(
    TrainConfig,
    {
        "backbone": {"name_or_path": "x", "family": "longformer"},
        "data": {"files": {"train": "a.jsonl"}},
    },
)
TRIAL = Trial({"seed": 10}, CONFIG, "ab" * 32, Path("folder"))
METRIC = CONFIG.training.metric


def evaluated(number: int, value: float, **further: float) -> Evaluated:
    metrics = {METRIC: value, "train/loss": 1.0, **further}
    report = Report(number, 10 * number, metrics, number == 1, False, trainable_parameters=5)
    return Evaluated("job", report)


def started(seen: list[TrialSummary] | None = None) -> tuple[RunWriter, MemoryRun]:
    tracker = MemoryTracker()
    tracker.ensure_experiment("x", "")
    parent = tracker.start_run("x", run_name="s", config={}, params={"epochs": 2}, tags={})
    on_change = (lambda summary: None) if seen is None else seen.append
    writer = RunWriter(tracker, parent, on_change=on_change)
    summary = writer.start("job", TRIAL, name="trial-000", params={"seed": 10}, tags={"a": "b"})
    return writer, tracker.runs[summary.run_id]


def test_any_metric_that_was_reported_reaches_the_tracker() -> None:
    """Whatever it is called: a metric is what an evaluation reported."""
    writer, run = started()
    writer.take("job", [evaluated(1, 0.5, gradient_norm=3.0, step=10.0, **{"config/odd": 1.0})])
    assert run.metrics["gradient_norm"] == [(10, 3.0)]
    assert run.metrics["config/odd"] == [(10, 1.0)]
    assert set(run.metrics) == {METRIC, "train/loss", "gradient_norm", "step", "config/odd"}


def test_an_evaluation_that_is_told_again_is_written_once() -> None:
    writer, run = started()
    for event in (evaluated(1, 0.5), evaluated(1, 0.5), evaluated(2, 0.4), evaluated(1, 0.5)):
        writer.take("job", [event])
    assert run.metrics[METRIC] == [(10, 0.5), (20, 0.4)]


def test_the_run_of_a_whole_life() -> None:
    seen: list[TrialSummary] = []
    writer, run = started(seen)
    writer.take("job", [Reused("job", "run-before")])
    writer.take("job", [evaluated(1, 0.5)])
    writer.take("job", [evaluated(2, 0.4)])
    writer.take("job", [Trained("job", "completed", "all steps done", Progress(), 5, None)])
    summary = writer.end(
        "job", "completed", "all steps done", final_metrics={"test/accuracy": 0.3, METRIC: 0.4}
    )
    assert run.name == "trial-000-abababab" and run.status == "completed"
    assert run.params == {"epochs": "2", "seed": "10", "trainable_parameters": "5"}
    assert run.tags["reused_from_run"] == "run-before" and run.tags["a"] == "b"
    assert run.tags["config_sha256"] == TRIAL.sha256
    assert run.metrics[f"best/{METRIC}"] == [(20, 0.5)]
    assert run.metrics["test/accuracy"] == [(20, 0.3)]
    assert run.metrics[METRIC] == [(10, 0.5), (20, 0.4)]
    assert json.loads(run.files["config.json"])["seed"] == 10
    assert [rung["step"] for rung in json.loads(run.files["rungs.json"])["rungs"]] == [10, 20]
    assert (summary.best_evaluation, summary.evaluations) == (1, 2)
    assert seen[-1] == summary and seen[0].outcome == "running"


def test_what_still_runs_is_interrupted_and_nothing_else() -> None:
    writer, run = started()
    writer.interrupt("the search was interrupted")
    assert run.status == "interrupted"
    writer, run = started()
    writer.end("job", "stopped", "others were better")
    writer.interrupt("the search was interrupted")
    assert run.status == "stopped"
