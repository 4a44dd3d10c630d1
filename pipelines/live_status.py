"""What a running search leaves word of every few seconds, for `prefixprop status` and for
monitoring: status.json in its folder, and the driver's metrics.

A thread of the driver asks the slots; a driver that is gone or stopped shows by the file's age.
"""

import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from components.atomic_file import write_state
from components.config import ExperimentConfig
from components.jobs.event_log import event_log
from components.planning import search_wanted
from components.planning.plan import evaluations_at_most
from pipelines.failures import one_line

if TYPE_CHECKING:
    from typing import Self

    from ray.actor import ActorHandle

    from components.jobs.slot_progress import SlotProgress
    from components.jobs.summary import TrialSummary

STATUS_FILE = "status.json"
FORMAT = 1
EVERY_SECONDS = 5.0
ANSWER_SECONDS = 3.0
TRIALS = "trials"
"""The phase in which the slots are to move, and not the driver."""


class LiveStatus:
    """A context manager round a search. `phase`: what it is at; `slots`: once there are some."""

    def __init__(self, config: ExperimentConfig, folder: Path) -> None:
        from components.tuning.search_metrics import SearchMetrics

        self.config, self.folder, self.metrics = config, folder, SearchMetrics(config.name)
        wanted = search_wanted(config)
        self.total, self.evaluations = wanted.trials, evaluations_at_most(wanted)
        self.phase, self.run_url = "preparing", ""
        self.slots: tuple[ActorHandle, ...] = ()
        self._trials: dict[str, TrialSummary] = {}
        self.log = event_log(folder, "driver", experiment=config.name)
        self._began, self._over = time.time(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="live-status", daemon=True)

    def __enter__(self) -> "Self":
        self.log.tell("began", search=self.folder.name)
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self.slots = ()
        self.phase = "done" if kind is None else "interrupted"
        self.log.tell(self.phase, error=None if error is None else one_line(error))
        self._write()
        self.metrics.ended()

    def update(self, summary: "TrialSummary") -> None:
        """A trial started, reported or ended."""
        before = self._trials.get(summary.name)
        if before is None or before.outcome != summary.outcome:
            trial = self.log.of(trial=Path(summary.folder).name, name=summary.name)
            trial.tell("trial", step=summary.step, state=summary.outcome, reason=summary.reason)
        self._trials[summary.name] = summary
        self.metrics.trials(self._trials.values())

    def _repeat(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self._write()

    def _write(self) -> None:
        if self.phase != TRIALS:
            self.metrics.moves()
        with suppress(OSError):  # a full disk ends the search where it matters, not here
            write_state(self.folder / STATUS_FILE, self._content())

    def _content(self) -> dict[str, Any]:
        training = self.config.training
        return {
            "format": FORMAT,
            "experiment": self.config.name,
            "phase": self.phase,
            "began_at": self._began,
            "written_at": time.time(),
            "metric": training.metric,
            "mode": training.mode,
            "trials_planned": self.total,
            "evaluations_per_trial": self.evaluations,
            "run_url": self.run_url,
            "trials": [_trial(each, training.metric) for each in tuple(self._trials.values())],
            # Of each job that a slot works at one entry.
            "slots": [{**asdict(each), "slot": slot} for slot, each in self._asked()],
        }

    def _asked(self) -> "list[tuple[int, SlotProgress]]":
        """What the slots say that answer, with their numbers."""
        import ray
        from ray.exceptions import RayError

        found: list[tuple[int, SlotProgress]] = []
        asked = [slot.progress.remote() for slot in self.slots]
        ready = ray.wait(asked, num_returns=len(asked), timeout=ANSWER_SECONDS)[0] if asked else []
        for each in ready:
            with suppress(RayError):  # a slot that is started again answers the next time
                found += [(asked.index(each), told) for told in ray.get(each)]
        return found


def _trial(summary: "TrialSummary", metric: str) -> dict[str, Any]:
    return {
        "name": summary.name,
        "job": Path(summary.folder).name,
        "point": dict(summary.point),
        "outcome": summary.outcome,
        "evaluations": summary.evaluations,
        "step": summary.step,
        "best": summary.best_metrics.get(metric),
        "reason": summary.reason,
    }
