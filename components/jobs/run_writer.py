"""From a job's life to a run of the tracker: the one writer for trials of a search and cells of a
comparison.

All tracking happens in the driver's process, so that trainings never wait for it. A metric is what
an evaluation reported, whatever its name.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from components.jobs.events import Evaluated, Event, Reused
from components.jobs.summary import TrialSummary
from components.jobs.trial import Trial
from components.registry import OUTCOMES, Outcome, RunLog, run_tags

UNFINISHED = frozenset({"failed", "lost"})
"""Outcomes of trials that a search which is continued runs again."""


class RunWriter:
    """Runs below `parent_run_id`, one per trial, and what is known of each trial by its job's id.
    `on_change` gets a summary whenever it changed.
    """

    def __init__(
        self,
        tracker: RunLog,
        parent_run_id: str,
        *,
        on_change: Callable[[TrialSummary], None] = lambda summary: None,
    ) -> None:
        self.tracker, self.parent_run_id, self.on_change = tracker, parent_run_id, on_change
        self.summaries: dict[str, TrialSummary] = {}
        self._metric: dict[str, str] = {}

    def start(
        self,
        job_id: str,
        trial: Trial,
        *,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> TrialSummary:
        """Start the trial's run, or set the one of this name to running again. The run is called
        after name and settings.
        """
        run_id = self.tracker.start_child(
            self.parent_run_id,
            name=f"{name}-{trial.sha256[:8]}",
            params=params,
            tags=dict(tags) | run_tags(config_sha256=trial.sha256),
        )
        self.tracker.log_dict(run_id, trial.config.model_dump(mode="json"), "config.json")
        self._metric[job_id] = trial.config.training.metric
        summary = TrialSummary(name, trial.point, trial.sha256, str(trial.folder), run_id)
        return self._changed(job_id, summary)

    def take(self, job_id: str, events: Iterable[Event]) -> TrialSummary:
        """Write what events tell of a job. An evaluation that was written already, told again by a
        job that was resumed, is not written twice.
        """
        for event in events:
            self._take(job_id, event)
        return self._changed(job_id, self.summaries[job_id])

    def _take(self, job_id: str, event: Event) -> None:
        before = self.summaries[job_id]
        after = before.after(event, metric=self._metric[job_id])
        match event:
            case Reused(run_id=run_id):
                self.tracker.set_tags(before.run_id, {"reused_from_run": run_id})
            case Evaluated(report=report) if after is not before:
                self.tracker.log_metrics(before.run_id, report.metrics, step=report.step)
                if before.trainable_parameters is None:
                    size = {"trainable_parameters": report.trainable_parameters}
                    self.tracker.log_params(before.run_id, size)
        self.summaries[job_id] = after

    def end(
        self,
        job_id: str,
        outcome: str,
        reason: str,
        *,
        final_metrics: Mapping[str, float] | None = None,
        step: int | None = None,
    ) -> TrialSummary:
        """End the trial's run. `final_metrics`: of the evaluation on all documents, at `step`;
        those on validation documents are left out where an evaluation told of them at this step.
        What its best evaluation was is told once nothing more can come (UNFINISHED).
        """
        summary = replace(self.summaries[job_id], outcome=outcome, reason=reason)
        step = summary.step if step is None else step
        best = {
            f"best/{name}": value
            for name, value in summary.best_metrics.items()
            if name.startswith("validation/") and outcome not in UNFINISHED
        }
        told = any(step == known for _, known, _ in summary.rungs)
        final = {
            name: value
            for name, value in (final_metrics or {}).items()
            if not (told and name.startswith("validation/"))
        }
        if metrics := best | final:
            self.tracker.log_metrics(summary.run_id, metrics, step=step)
        if summary.rungs:
            self.tracker.log_dict(
                summary.run_id, rungs(summary, self._metric[job_id]), "rungs.json"
            )
        known: dict[str, Outcome] = {name: name for name in OUTCOMES}
        self.tracker.finish(summary.run_id, known[outcome], reason)
        return self._changed(job_id, summary)

    def interrupt(self, reason: str) -> None:
        """End the runs of all trials that still run."""
        for job_id, summary in self.summaries.items():
            if summary.outcome == "running":
                self.tracker.finish(summary.run_id, "interrupted", reason)
                self.summaries[job_id] = replace(summary, outcome="interrupted", reason=reason)

    def use_real_ids(self, real_run_id: Callable[[str], str | None]) -> None:
        """Replace provisional run ids, given while the store was away, by the store's own."""
        for job_id, summary in self.summaries.items():
            run_id = real_run_id(summary.run_id) or summary.run_id
            self.summaries[job_id] = replace(summary, run_id=run_id)

    def _changed(self, job_id: str, summary: TrialSummary) -> TrialSummary:
        self.summaries[job_id] = summary
        self.on_change(summary)
        return summary


def rungs(summary: TrialSummary, metric: str) -> dict[str, Any]:
    """A trial's evaluations, JSON-able."""
    return {
        "rungs": [
            {"evaluation": evaluation, "step": step, metric: value}
            for evaluation, step, value in summary.rungs
        ],
        "best_evaluation": summary.best_evaluation,
    }
