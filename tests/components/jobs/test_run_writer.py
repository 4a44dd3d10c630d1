"""From a job's life to a run."""

import json
from pathlib import Path

import pytest

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
    summary = writer.start(
        "job",
        TRIAL,
        name="trial-000",
        title="000 seed=10",
        params={"seed": 10},
        tags={"a": "b"},
    )
    return writer, tracker.runs[summary.run_id]


def test_any_metric_that_was_reported_reaches_the_tracker() -> None:
    """Whatever it is called: a metric is what an evaluation reported."""
    writer, run = started()
    writer.take("job", [evaluated(1, 0.5, gradient_norm=3.0, step=10.0, **{"config/odd": 1.0})])
    assert run.metrics["gradient_norm"] == [(10, 3.0)]
    assert run.metrics["config/odd"] == [(10, 1.0)]
    assert set(run.metrics) == {METRIC, "train/loss", "gradient_norm", "config/odd"}


def test_of_the_task_s_metrics_its_curves_are_drawn_and_all_are_kept() -> None:
    """Nobody sorts by most of them; the step is the axis."""
    writer, run = started()
    told = {"validation/nll": 1.0, "validation/mce": 0.3, "validation/num_documents": 9.0}
    writer.take("job", [evaluated(1, 0.5, step=10.0, **told)])
    writer.end("job", "stopped", "others were better")
    assert set(run.metrics) == {METRIC, "train/loss", "validation/nll", "best_accuracy"}
    (kept,) = json.loads(run.files["evaluations.json"])["evaluations"]
    assert told.items() <= kept.items() and kept["step"] == 10


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
    final = {"test/accuracy": 0.3, "test/mce": 0.2, "validation_all/accuracy": 0.45}
    summary = writer.end("job", "completed", "all steps done", final_metrics=final)
    assert run.name == "000 seed=10" and run.status == "completed"
    assert run.params == {"epochs": "2", "seed": "10", "trainable_parameters": "5"}
    assert run.tags["reused_from_run"] == "run-before" and run.tags["a"] == "b"
    assert run.tags["config_sha256"] == TRIAL.sha256
    assert run.metrics["best_accuracy"] == [(10, 0.5)]
    assert "test/mce" not in run.metrics and json.loads(run.files["final.json"]) == final
    assert run.metrics["validation_all/accuracy"] == [(20, 0.45)]
    assert run.metrics["test/accuracy"] == [(20, 0.3)]
    assert run.metrics[METRIC] == [(10, 0.5), (20, 0.4)]
    assert json.loads(run.files["config.json"])["seed"] == 10
    kept = json.loads(run.files["evaluations.json"])["evaluations"]
    assert [each["step"] for each in kept] == [10, 20]
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


@pytest.mark.parametrize("outcome", ["stopped", "diverged", "interrupted", "lost"])
def test_an_outcome_that_is_no_completion_stands_in_the_name(outcome: str) -> None:
    writer, run = started()
    writer.take("job", [evaluated(1, 0.5)])
    writer.end("job", outcome, "a reason")
    assert run.name == f"000 seed=10 - {outcome}"


def test_a_trial_that_diverged_before_its_first_evaluation_has_what_it_cost() -> None:
    writer, run = started()
    progress = Progress(step=3, tokens=99, seconds=1.5)
    writer.take("job", [Trained("job", "diverged", "loss was nan", progress, 5, 2**21)])
    writer.end("job", "diverged", "loss was nan")
    assert run.metrics["tokens"] == [(3, 99.0)] and run.metrics["seconds"] == [(3, 1.5)]
    assert run.metrics["peak_memory_mib"] == [(3, 2.0)]


def test_a_trial_that_goes_on_after_a_stop_has_each_step_once() -> None:
    writer, run = started()
    writer.take("job", [evaluated(1, 0.5)])
    writer.end("job", "stopped", "others were better")
    (run_id,) = [each for each, known in writer.tracker.runs.items() if known is run]
    again = RunWriter(writer.tracker, writer.parent_run_id)
    start = {"name": "trial-000", "title": "000 seed=10", "params": {"seed": 10}, "tags": {}}
    assert again.start("job", TRIAL, **start).run_id == run_id
    assert run.name == "000 seed=10" and run.tags["resumed"] == "true"
    for event in (evaluated(1, 0.5), evaluated(2, 0.4)):
        again.take("job", [event])
    again.end("job", "completed", "all steps done")
    assert run.metrics[METRIC] == [(10, 0.5), (20, 0.4)]
    assert run.metrics["best_accuracy"] == [(10, 0.5)]
