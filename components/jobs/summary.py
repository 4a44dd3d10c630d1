"""What was told of a trial so far, for people and for whoever chooses the next one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from components.jobs.events import Evaluated, Event, Trained
from components.training.outcomes import Report


@dataclass(frozen=True)
class TrialSummary:
    """One trial. `best_metrics`: metrics of its best evaluation; `rungs`: (evaluation, step,
    metric) of each report; `history`: all metrics of each; `tokens`, `seconds`: all that it took;
    `outcome` is "running" until it ended.
    """

    name: str
    point: Mapping[str, Any]
    config_sha256: str
    folder: str
    run_id: str
    outcome: str = "running"
    reason: str = ""
    evaluations: int = 0
    step: int = 0
    best_evaluation: int = 0
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    trainable_parameters: int | None = None
    rungs: tuple[tuple[int, int, float], ...] = ()
    history: tuple[Mapping[str, float], ...] = ()
    tokens: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int | None = None

    @property
    def best_step(self) -> int | None:
        """Optimizer step of the best evaluation, None where there is none."""
        return next(
            (step for number, step, _ in self.rungs if number == self.best_evaluation), None
        )

    def after(self, event: Event, *, metric: str) -> "TrialSummary":
        """The summary after an event; an evaluation that is told again changes nothing. `metric`:
        what rungs are of.
        """
        match event:
            case Evaluated(report=report) if report.evaluation > self.evaluations:
                return self._after_report(report, metric)
            case Trained():
                return replace(
                    self,
                    outcome=event.outcome,
                    reason=event.reason,
                    step=max(self.step, event.progress.step),
                    tokens=max(self.tokens, event.progress.tokens),
                    seconds=max(self.seconds, event.progress.seconds),
                    trainable_parameters=event.trainable_parameters,
                    peak_memory_bytes=event.peak_memory_bytes,
                )
        return self

    def _after_report(self, report: Report, metric: str) -> "TrialSummary":
        rung = (report.evaluation, report.step, report.metrics[metric])
        after = replace(
            self,
            evaluations=report.evaluation,
            step=report.step,
            metrics=report.metrics,
            rungs=(*self.rungs, rung),
            history=(*self.history, report.metrics),
            tokens=int(report.metrics.get("tokens", 0)),
            seconds=report.metrics.get("seconds", 0.0),
            trainable_parameters=report.trainable_parameters,
        )
        if not report.is_best:
            return after
        return replace(after, best_evaluation=report.evaluation, best_metrics=report.metrics)
