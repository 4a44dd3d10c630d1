"""Our searcher behind Ray Tune's interface: Tune asks for a suggestion, the searcher is asked with
the results so far.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher as TuneSearcher

from components.config import ExperimentConfig
from components.jobs.trial import Trial, make_trial
from components.tuning.asked_points import read_points, write_points
from components.tuning.searchers import Result, Searcher

TRIAL, EVENTS = "trial", "events"
"""Keys: of Tune's configuration of a trial that holds our Trial, and of a result of Tune that holds
the events since the one before.
"""


class Asking(TuneSearcher):
    """Makes the Trial of every point that the searcher gives, kept points of the search first."""

    def __init__(self, config: ExperimentConfig, searcher: Searcher, *, folder: Path) -> None:
        super().__init__(metric=config.training.metric, mode=config.training.mode)
        # Not "searcher": by an attribute of that name Tune knows wrappers of its own.
        self.config, self.ours, self.folder = config, searcher, folder
        self.kept = read_points(folder)
        self.results: dict[str, Result] = {}

    def suggest(self, trial_id: str) -> Any:
        asked = len(self.results)
        if asked < len(self.kept):
            point = self.kept[asked]
        else:
            found = self.ours.ask(tuple(self.results.values()))
            if found is None:
                return TuneSearcher.FINISHED
            point = found
            self.kept.append(point)
            write_points(self.folder, self.kept)
        trial: Trial = make_trial(self.config, point, folder=self.folder)
        assert all(point != other.point for other in self.results.values()), (
            f"the searcher {self.config.search.searcher} gave {point} twice"
        )
        self.results[trial_id] = Result(point)
        return {TRIAL: trial}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._take(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._take(trial_id, result or {})
        if self.results[trial_id].outcome == "running":
            outcome = "failed" if error else "stopped"
            self.results[trial_id] = replace(self.results[trial_id], outcome=outcome)

    def _take(self, trial_id: str, result: dict[str, Any]) -> None:
        known = self.results[trial_id]
        for event in result.get(EVENTS, ()):
            known = known.after(event, metric=self.config.training.metric)
        self.results[trial_id] = known

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a search is continued from its own folder, never from Tune's."""

    def restore(self, checkpoint_path: str) -> None:
        """See save."""
