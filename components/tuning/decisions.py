"""What a search decides, without Tune's processes: its searcher and its trial scheduler, asked and
told in the order in which Tune's controller asks and tells them.

The fact a newcomer gets wrong: Tune ends a trial that says it is done without asking the scheduler,
but tells it, so the last evaluation of a trial counts for those after it.
"""

from dataclasses import dataclass, replace
from typing import Any

from components.config import ExperimentConfig
from components.jobs.events import Evaluated, Event
from components.tuning.searchers import SEARCHERS, Point, Result
from components.tuning.trial_schedulers import TIME_ATTRIBUTE, TRIAL_SCHEDULERS

STOP = "STOP"
"""As Tune's schedulers spell it (ray.tune.schedulers.TrialScheduler.STOP)."""


@dataclass(frozen=True)
class _KnownById:
    """All that a trial scheduler looks at in a trial."""

    trial_id: str


class Decisions:
    """Of one search. `max_evaluations`: of its longest trial."""

    def __init__(self, config: ExperimentConfig, *, max_evaluations: int) -> None:
        search, training = config.search, config.training
        self.metric = training.metric
        self.searcher = SEARCHERS[search.searcher](config)
        self.scheduler = TRIAL_SCHEDULERS[search.trial_scheduler](config, max_evaluations)
        self.scheduler.set_search_properties(training.metric, training.mode)
        self.results: dict[str, Result] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self.exhausted = False

    def ask(self) -> tuple[str, Point] | None:
        """The next trial's id and point; None, now and ever after, where the search is to end."""
        point = None if self.exhausted else self.searcher.ask(tuple(self.results.values()))
        if point is None:
            self.exhausted = True
            return None
        trial_id = f"trial-{len(self.results):03d}"
        self.results[trial_id] = Result(point)
        self.scheduler.on_trial_add(None, _KnownById(trial_id))
        return trial_id, point

    def tell(self, trial_id: str, event: Event) -> bool:
        """Tell what happened to a trial; whether it is to be stopped now."""
        if not isinstance(event, Evaluated):
            self.results[trial_id] = self.results[trial_id].after(event, metric=self.metric)
            return False
        report = event.report
        self.last[trial_id] = {
            TIME_ATTRIBUTE: report.evaluation,
            self.metric: report.metrics[self.metric],
        }
        decided = STOP
        if not report.done:
            trial = _KnownById(trial_id)
            decided = self.scheduler.on_trial_result(None, trial, self.last[trial_id])
        self.results[trial_id] = self.results[trial_id].after(event, metric=self.metric)
        return bool(decided == STOP)

    def end(self, trial_id: str) -> str:
        """The trial runs no more; its outcome."""
        self.scheduler.on_trial_complete(None, _KnownById(trial_id), self.last.get(trial_id, {}))
        known = self.results[trial_id]
        if known.outcome == "running":
            self.results[trial_id] = replace(known, outcome="stopped")
        return self.results[trial_id].outcome
