"""A real search whose times are noted, with workers killed at given times: what the simulator is
held against (`simulated`). In a cluster that was joined before.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.config import ExperimentConfig

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from components.data import PreparedData
    from components.jobs.summary import TrialSummary


@dataclass(frozen=True)
class Kill:
    """SIGKILL the workers of a slot: `seconds` after the first step of the first trial, or, where
    it is given, once trial `after[0]` has told `after[1]` evaluations.
    """

    slot: int
    seconds: float = 0.0
    after: tuple[str, int] | None = None


@dataclass(frozen=True)
class Told:
    """An evaluation: `at`, when the driver heard of it, in seconds since the start; `seconds`: of
    training until then, without what was lost and repeated.
    """

    at: float
    step: int
    seconds: float
    value: float


@dataclass
class TimedTrial:
    """A trial as the driver saw it."""

    name: str
    point: Mapping[str, Any]
    told: list[Told] = field(default_factory=list)
    outcome: str = "running"
    reason: str = ""

    @property
    def started(self) -> float:
        """When its first step began, in seconds since the start."""
        return self.told[0].at - self.told[0].seconds

    @property
    def ended(self) -> float:
        return self.told[-1].at


@dataclass(frozen=True)
class TimedSearch:
    """`seconds`: from the start of its slots to the end of its last trial; `killed`: when workers
    were killed, in seconds since the start.
    """

    seconds: float
    trials: tuple[TimedTrial, ...]
    killed: tuple[float, ...]
    load: tuple[float, float]


class _Notes:
    """What the driver hears, with times since the start."""

    def __init__(self, metric: str) -> None:
        self.metric, self.began = metric, time.monotonic()
        self.trials: dict[str, TimedTrial] = {}

    @property
    def now(self) -> float:
        return time.monotonic() - self.began

    def listen(self, summary: "TrialSummary") -> None:
        trial = self.trials.setdefault(summary.name, TimedTrial(summary.name, summary.point))
        trial.outcome, trial.reason = summary.outcome, summary.reason
        if summary.evaluations > len(trial.told):
            seconds, value = summary.metrics["seconds"], summary.metrics[self.metric]
            trial.told.append(Told(self.now, summary.step, seconds, value))

    @property
    def training(self) -> float:
        """Seconds since the first step of the first trial; below 0 where none was evaluated yet."""
        begun = [trial.started for trial in self.trials.values() if trial.told]
        return self.now - min(begun) if begun else -1.0

    def has_told(self, name: str, evaluations: int) -> bool:
        return name in self.trials and len(self.trials[name].told) >= evaluations


def timed_search(
    config: ExperimentConfig, data: "PreparedData", folder: Path, kills: Sequence[Kill] = ()
) -> TimedSearch:
    """Run the trials of a search, killing workers meanwhile; what an earlier try left in `folder`
    goes first, because its checkpoints would be gone on from. Raises RuntimeError where a trial did
    not end as completed or stopped.
    """
    from components.jobs.run_writer import RunWriter
    from components.jobs.slots import close_slots, wait_until_placed
    from components.registry import code_fingerprint, open_tracker
    from components.tuning.run_search import run_trials
    from components.tuning.trial_log import RunFacts, TrialLog
    from components.tuning.tune_trial import SearchContext
    from pipelines.trial_slots import start_trial_slots

    shutil.rmtree(folder, ignore_errors=True)
    tracker = open_tracker("memory", "memory://")
    tracker.ensure_experiment(config.name, "")
    run_id = tracker.start_run(config.name, run_name="timed", config={}, params={}, tags={})
    before, notes = os.getloadavg()[0], _Notes(config.training.metric)
    slots = start_trial_slots(
        config.train_config(),
        config.cluster,
        count=config.search.concurrent_slots,
        storage=folder,
        experiment=config.name,
        capacity=config.search.trials_per_slot,
    )
    wait_until_placed(slots, config.cluster)
    context = SearchContext(
        config, slots, data.folder, data.fingerprint, code_fingerprint(), folder
    )
    writer = RunWriter(tracker, run_id, on_change=notes.listen)
    log = TrialLog(config, writer, facts=RunFacts(), identity=context.identity)
    killer = _Killer(slots, kills, notes)
    killer.start()
    run_trials(context, log, num_documents=len(data.splits["train"]))
    killer.over.set()
    close_slots(slots)
    trials = tuple(notes.trials.values())
    bad = [trial for trial in trials if trial.outcome not in ("completed", "stopped")]
    if bad:
        raise RuntimeError(f"{bad[0].name} ended as {bad[0].outcome}: {bad[0].reason}")
    seconds = max(trial.ended for trial in trials)
    return TimedSearch(seconds, trials, tuple(killer.killed), (before, os.getloadavg()[0]))


class _Killer(threading.Thread):
    """Kills when it is time."""

    def __init__(
        self, slots: "tuple[ActorHandle, ...]", kills: Sequence[Kill], notes: _Notes
    ) -> None:
        super().__init__(daemon=True, name="killer")
        self.slots, self.kills, self.notes = slots, kills, notes
        self.over, self.killed = threading.Event(), list[float]()

    def run(self) -> None:
        for kill in self.kills:
            while not self._due(kill):
                if self.over.wait(0.02):
                    return
            self._kill(self.slots[kill.slot])

    def _due(self, kill: Kill) -> bool:
        if kill.after is not None:
            return self.notes.has_told(*kill.after)
        return self.notes.training >= kill.seconds

    def _kill(self, slot: "ActorHandle") -> None:
        import ray

        for pid in ray.get(slot.__ray_call__.remote(worker_pids)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.killed.append(self.notes.now)


def worker_pids(slot: Any) -> list[int]:
    """Asked in a slot's process: its workers, as its watchdog knows them."""
    return [rank.pid for rank in slot.watchdog.ranks.values()]
