"""A search's numbers at Ray's own metrics endpoint, from its driver. Those of its steps come from
the slots (components/jobs/slot_metrics.py).
"""

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ray.util.metrics import Gauge

from components.registry import OUTCOMES

if TYPE_CHECKING:
    from components.jobs.summary import TrialSummary

STATES = ("running", *OUTCOMES)


class SearchMetrics:
    """Of one search. Made where the cluster was joined."""

    def __init__(self, experiment: str) -> None:
        self._label, keys = {"experiment": experiment}, ("experiment",)
        self._trials = Gauge(
            "prefixprop_trials", "Trials of the search by state.", ("experiment", "state")
        )
        self._progress = Gauge(
            "prefixprop_progress_timestamp_seconds",
            "Unix time of the last micro-batch, trained on or evaluated.",
            keys,
        )
        self._ended = Gauge(
            "prefixprop_search_ended_timestamp_seconds",
            "Unix time at which the driver ended, in order or by an error.",
            keys,
        )
        self.trials(())

    def trials(self, summaries: "Iterable[TrialSummary]") -> None:
        """Every state is told, those without a trial as 0."""
        found = Counter(summary.outcome for summary in summaries)
        for state in STATES:
            self._trials.set(found[state], {**self._label, "state": state})

    def moves(self) -> None:
        """The driver is at work itself, so that no micro-batch is due."""
        self._progress.set(time.time(), self._label)

    def ended(self) -> None:
        self._ended.set(time.time(), self._label)
