"""From a job's life to a run of the tracker: the one writer for trials of a search and cells of a
comparison. What of it is a metric is decided in run_metrics.py.

All tracking happens in the driver's process, so that trainings never wait for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.checksums import Damaged
from components.jobs.events import Evaluated, Event, Reused
from components.jobs.flight_record import FLIGHT_FILE, read_flight_record
from components.jobs.run_metrics import at_the_end, curves, evaluations, final_numbers
from components.jobs.run_names import ended_name
from components.jobs.summary import TrialSummary
from components.jobs.trial import Trial
from components.registry import OUTCOMES, Dataset, Outcome, RunLog, run_tags

UNFINISHED = frozenset({"failed", "lost"})
"""Outcomes of trials that a search which is continued runs again."""
WITH_FLIGHT_RECORD = frozenset({"failed", "lost", "infeasible", "diverged"})
EVALUATIONS_FILE, FINAL_FILE = "evaluations.json", "final.json"
"""Artifacts of a run: every metric of every evaluation, and of the final one."""


@dataclass(frozen=True)
class _Run:
    """What a run is called, the metric that decides, and its task."""

    title: str
    metric: str
    task: str


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
        self._of: dict[str, _Run] = {}

    def start(
        self,
        job_id: str,
        trial: Trial,
        *,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        title: str = "",
        datasets: Sequence[Dataset] = (),
    ) -> TrialSummary:
        """Start the trial's run, or set the one of this name and settings to running again.
        `title`: what the run is called for people; empty: the name.
        """
        title = title or name
        run_id = self.tracker.start_child(
            self.parent_run_id,
            key=f"{name}-{trial.sha256[:8]}",
            name=title,
            params=params,
            tags=dict(tags) | run_tags(config_sha256=trial.sha256),
        )
        self.tracker.log_dict(run_id, trial.config.model_dump(mode="json"), "config.json")
        if datasets:
            self.tracker.log_datasets(run_id, datasets)
        self._of[job_id] = _Run(title, trial.config.training.metric, trial.config.data.task)
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
        run = self._of[job_id]
        after = before.after(event, metric=run.metric)
        match event:
            case Reused(run_id=run_id):
                self.tracker.set_tags(before.run_id, {"reused_from_run": run_id})
            case Evaluated(report=report) if after is not before:
                shown = curves(report.metrics, task=run.task, deciding=run.metric)
                self.tracker.log_metrics(before.run_id, shown, step=report.step)
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
        """End the trial's run. `final_metrics`: of the best adapter on all documents, at `step`.
        What the trial's best evaluation was is told once nothing more can come (UNFINISHED).
        """
        summary = replace(self.summaries[job_id], outcome=outcome, reason=reason)
        run, run_id = self._of[job_id], summary.run_id
        if outcome not in UNFINISHED:
            for at, metrics in at_the_end(summary, run.metric):
                self.tracker.log_metrics(run_id, metrics, step=at)
        if final_metrics:
            shown = final_numbers(final_metrics, task=run.task)
            self.tracker.log_metrics(run_id, shown, step=summary.step if step is None else step)
            self.tracker.log_dict(run_id, dict(final_metrics), FINAL_FILE)
        if summary.rungs:
            content = evaluations(summary, run.metric)
            self.tracker.log_dict(run_id, content, EVALUATIONS_FILE)
        if outcome in WITH_FLIGHT_RECORD:
            self._log_flight_record(run_id, Path(summary.folder))
        known: dict[str, Outcome] = {name: name for name in OUTCOMES}
        self._finish(job_id, run_id, known[outcome], reason)
        return self._changed(job_id, summary)

    def _log_flight_record(self, run_id: str, folder: Path) -> None:
        """The last steps of a training that ended badly, where its slot lived to write them."""
        with suppress(OSError, Damaged):
            self.tracker.log_dict(run_id, read_flight_record(folder), FLIGHT_FILE)

    def _finish(self, job_id: str, run_id: str, outcome: Outcome, reason: str) -> None:
        self.tracker.finish(run_id, outcome, reason)
        if outcome != "completed":
            self.tracker.rename(run_id, ended_name(self._of[job_id].title, outcome))

    def interrupt(self, reason: str) -> None:
        """End the runs of all trials that still run."""
        for job_id, summary in self.summaries.items():
            if summary.outcome == "running":
                self._finish(job_id, summary.run_id, "interrupted", reason)
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
