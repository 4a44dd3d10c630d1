"""A store that is away, and one that takes what it is told and loses the answer: in the end every
metric of the run has each step once, in order.
"""

from typing import Any

import pytest

from components.jobs.events import Evaluated, Trained
from components.jobs.run_writer import RunWriter
from components.registry import TolerantTracker, open_tracker
from components.training.outcomes import Progress, Report
from tests.components.jobs.test_run_writer import METRIC, TRIAL
from tests.runs import against_the_axis, points_of

STEPS = (10, 20, 30, 40, 50)


@pytest.mark.parametrize("takes_it", [False, True], ids=["is away", "loses the answer"])
def test_after_an_outage_each_metric_has_each_step_once(
    mlflow_uri: str, monkeypatch: pytest.MonkeyPatch, takes_it: bool
) -> None:
    name = f"outage-{takes_it}"
    store: Any = open_tracker("mlflow", mlflow_uri)
    store.ensure_experiment(name, "")
    parent = store.start_run(name, run_name="s", config={}, params={}, tags={})
    tolerant = TolerantTracker(store, retry_seconds=0.0)
    write, out = store.client.log_batch, {"now": False}

    def unsteady(*arguments: Any, **further: Any) -> None:
        if takes_it or not out["now"]:
            write(*arguments, **further)
        if out["now"]:
            raise ConnectionError("the connection broke")

    monkeypatch.setattr(store.client, "log_batch", unsteady)
    writer = RunWriter(tolerant, parent)
    writer.start("job", TRIAL, name="trial-000", params={}, tags={})

    def train() -> None:
        for number, step in enumerate(STEPS, 1):
            out["now"] = step in (20, 40)
            metrics = {METRIC: number / 10, "train/loss": 1.0, "tokens": float(step)}
            report = Report(number, step, metrics, True, step == STEPS[-1], 5)
            writer.take("job", [Evaluated("job", report)])

    with pytest.warns(RuntimeWarning, match="the connection broke"):
        train()
    out["now"] = False
    progress = Progress(step=50, tokens=50, seconds=1.0)
    writer.take("job", [Trained("job", "completed", "all steps done", progress, 5, None)])
    writer.end("job", "completed", "all steps done")
    assert tolerant.flush() and tolerant.dropped == 0 and tolerant.failures > 0
    assert against_the_axis(store.client, name) == []
    found = {metric: points for (_, metric), points in points_of(store.client, name).items()}
    assert [step for step, _ in found[METRIC]] == list(STEPS)
    assert found["best_accuracy"] == [(50, 0.5)]
