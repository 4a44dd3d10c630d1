"""What the driver keeps of every trial of a search: Tune tells this callback, which writes runs
(components/jobs/run_writer.py) and, at a trial's end, the record beside its checkpoint.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from components.config import ExperimentConfig, resolved
from components.jobs.events import Event, Failed, Trained
from components.jobs.record import Identity, JobRecord, write_record
from components.jobs.repetition import LOST, given_up
from components.jobs.run_names import trial_name
from components.jobs.run_writer import RunWriter
from components.jobs.summary import TrialSummary
from components.jobs.trial import Trial
from components.registry import Dataset
from components.training.outcomes import Progress
from components.tuning.asking import EVENTS, TRIAL

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TunesTrial


@dataclass(frozen=True)
class RunFacts:
    """What every trial's run carries: tags, params made of its point and settings, documents."""

    tags: Mapping[str, str] = field(default_factory=dict)
    params: Callable[[Trial], Mapping[str, Any]] = lambda trial: trial.point
    datasets: tuple[Dataset, ...] = ()


class TrialLog(Callback):
    """Tune's callback. Job ids are the keys of the trials' settings."""

    def __init__(
        self,
        config: ExperimentConfig,
        writer: RunWriter,
        *,
        facts: RunFacts,
        identity: Callable[[Trial], Identity],
    ) -> None:
        self.config, self.writer, self.facts, self.identity = config, writer, facts, identity
        self.trained: dict[str, Trained] = {}
        self.failed: dict[str, Failed] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks to disk, where no search is ever restored from, and a
        tracker or listener may hold what cannot be pickled.
        """
        return {}

    @property
    def summaries(self) -> tuple[TrialSummary, ...]:
        """In the order in which the trials started."""
        return tuple(self.writer.summaries.values())

    def on_trial_start(
        self, iteration: int, trials: "list[TunesTrial]", trial: "TunesTrial", **info: Any
    ) -> None:
        self._started(trial)

    def _started(self, trial: "TunesTrial") -> Trial:
        """Our trial; its run is started now where it has none. A trial that is started again keeps
        its run, and one that could not start has one too.
        """
        ours: Trial = trial.config[TRIAL]
        if ours.key not in self.writer.summaries:
            name = f"trial-{len(self.writer.summaries):03d}"
            self.writer.start(
                ours.key,
                ours,
                name=name,
                title=trial_name(name, ours.point),
                params=self.facts.params(ours),
                tags=self.facts.tags,
                datasets=self.facts.datasets,
            )
        return ours

    def on_trial_result(
        self,
        iteration: int,
        trials: "list[TunesTrial]",
        trial: "TunesTrial",
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        events: tuple[Event, ...] = result[EVENTS]
        self.writer.take(self._started(trial).key, events)
        self.trained |= {event.job_id: event for event in events if isinstance(event, Trained)}
        self.failed |= {event.job_id: event for event in events if isinstance(event, Failed)}

    def on_trial_complete(
        self, iteration: int, trials: "list[TunesTrial]", trial: "TunesTrial", **info: Any
    ) -> None:
        ours = self._started(trial)
        summary = self.writer.summaries[ours.key]
        if summary.outcome != "running":
            return self._end(ours, summary.outcome, summary.reason)
        if failed := self.failed.get(ours.key):
            return self._end(ours, given_up(failed), failed.reason)
        self._end(
            ours,
            "stopped",
            f"stopped by {self.config.search.trial_scheduler} after evaluation "
            f"{summary.evaluations}: others were better at that point",
        )

    def on_trial_error(
        self, iteration: int, trials: "list[TunesTrial]", trial: "TunesTrial", **info: Any
    ) -> None:
        """Tune's own actor was lost too often, or found no slot: nothing that a training did."""
        self._end(self._started(trial), LOST, _last_line(trial))

    def _end(self, trial: Trial, outcome: str, reason: str) -> None:
        summary = self.writer.end(trial.key, outcome, reason)
        if not (trial.folder / "checkpoint").is_dir():
            return  # nothing that could be taken up again
        told = self.trained.get(trial.key)
        record = JobRecord(
            self.identity(trial),
            outcome,
            reason,
            run_id=summary.run_id,
            progress=told.progress if told else _progress(summary),
            trainable_parameters=summary.trainable_parameters,
            peak_memory_bytes=told.peak_memory_bytes if told else None,
            about={"trial": summary.name, "point": dict(trial.point)},
        )
        write_record(trial.folder, record, config=resolved(trial.config))

    def lost(self) -> tuple[TrialSummary, ...]:
        """The trials of which nothing is known, because their workers were lost."""
        return tuple(summary for summary in self.summaries if summary.outcome == LOST)

    def best(self) -> TrialSummary | None:
        """The trial with the best evaluation of all, the earlier one of equals; trials that
        diverged or failed do not count.
        """
        metric, mode = self.config.training.metric, self.config.training.mode
        sign = 1.0 if mode == "max" else -1.0
        usable = [
            summary
            for summary in self.summaries
            if summary.best_metrics and summary.outcome in ("completed", "stopped")
        ]
        return max(usable, key=lambda summary: sign * summary.best_metrics[metric], default=None)


def _progress(summary: TrialSummary) -> Progress:
    """As far as it was told, of a trial that Tune stopped."""
    return Progress(
        step=summary.step,
        tokens=int(summary.metrics.get("tokens", 0)),
        seconds=summary.metrics.get("seconds", 0.0),
        evaluations=summary.evaluations,
        best_evaluation=summary.best_evaluation,
        best_metrics=summary.best_metrics,
    )


def _last_line(trial: "TunesTrial") -> str:
    """Why Tune gave a trial up, in one line."""
    text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the trial ended without a message"
