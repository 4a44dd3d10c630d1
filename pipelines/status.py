"""How a search stands: what its driver and its slots told last, and how long ago that was.

Read from the search's folder alone: no cluster is asked, so it answers of one that hangs too. The
fact a newcomer gets wrong: nothing here says that a search is well; the age of its signs does.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.atomic_file import read_state
from components.config import ExperimentConfig
from components.errors import ArtifactError, ConfigError
from components.jobs.driver_lock import holder_of
from components.tuning.search_folder import SearchFolder, searches
from pipelines.live_status import STATUS_FILE
from pipelines.time_left import seconds_left


@dataclass(frozen=True)
class TrialStatus:
    """One trial as it was told last. `best`: by the metric that decides; `steps_per_second` and
    `slot_step` where a slot is at work at it.
    """

    name: str
    point: Mapping[str, Any]
    outcome: str
    evaluations: int
    step: int
    best: float | None
    reason: str
    steps_per_second: float | None = None


@dataclass(frozen=True)
class SearchStatus:
    """`state`: running, interrupted or done by its folder; `driver`: who holds it, None where
    nobody does; `phase`: what it was at. Times in seconds; ages are counted from now; None where
    nothing was told. `trials` best first.
    """

    experiment: str
    search_id: str
    folder: str
    state: str
    driver: str | None
    phase: str
    metric: str
    by_state: Mapping[str, int]
    trials_planned: int
    trials: tuple[TrialStatus, ...]
    steps_per_second: float | None
    ranks: tuple[int, ...]
    leaving: tuple[str, ...]
    seconds_passed: float
    seconds_left: float | None
    age_of_driver: float | None
    age_of_workers: float | None
    age_of_step: float | None
    run_url: str

    @property
    def runs(self) -> bool:
        """Whether it is at work, by its driver's word."""
        return self.state == "running" and self.driver is not None

    @property
    def is_well(self) -> bool:
        """Whether it ended in order, or is held by a driver."""
        return self.state == "done" or self.runs


def status(config: ExperimentConfig, *, search_id: str | None = None) -> SearchStatus:
    """Of the experiment's latest search, or that of the id. Raises ConfigError where there is none
    in cluster.storage_path.
    """
    storage = Path(config.cluster.storage_path).resolve()
    known = searches(storage, config.name)
    chosen = [each for each in known if search_id in (None, each.search_id)]
    if not chosen:
        found = ", ".join(each.search_id for each in known[-5:]) or "none"
        raise ConfigError(
            f"No search{f' {search_id}' if search_id else ''} of '{config.name}' below {storage} "
            f"(there: {found}). Another folder: --set cluster.storage_path=...; a job of a cluster "
            "whose storage is not seen here: prefixprop jobs logs ID"
        )
    return _of(chosen[-1], config, now=time.time())


def _of(search: SearchFolder, config: ExperimentConfig, *, now: float) -> SearchStatus:
    folder = Path(search.path)
    told = _told(folder / STATUS_FILE)
    slots: list[dict[str, Any]] = told.get("slots", [])
    by_slot = {slot.get("slot", place): slot for place, slot in enumerate(slots)}
    rates = {slot["job"]: slot["steps_per_second"] for slot in slots}
    steps = {slot["job"]: slot["step"] for slot in slots}
    trials = tuple(
        TrialStatus(
            name=each["name"],
            point=each["point"],
            outcome=each["outcome"],
            evaluations=each["evaluations"],
            step=max(each["step"], steps.get(each["job"], 0)),
            best=each["best"],
            reason=each["reason"],
            steps_per_second=rates.get(each["job"]),
        )
        for each in told.get("trials", [])
    )
    sign = -1.0 if config.training.mode == "max" else 1.0
    worst = float("inf")
    ranked = sorted(trials, key=lambda each: worst if each.best is None else sign * each.best)
    running = [rate for rate in rates.values() if rate]
    passed = told["written_at"] - told["began_at"] if told else 0.0
    planned = told.get("trials_planned", 0)
    return SearchStatus(
        experiment=config.name,
        search_id=search.search_id,
        folder=str(folder),
        state=search.state,
        driver=holder_of(folder),
        phase=told.get("phase", "unknown: it left no word"),
        metric=told.get("metric", config.training.metric),
        by_state=Counter(each.outcome for each in trials),
        trials_planned=planned,
        trials=tuple(ranked),
        steps_per_second=sum(running) if running else None,
        ranks=tuple(slot["ranks"] for slot in by_slot.values()),
        leaving=tuple(slot["leaving"] for slot in by_slot.values() if slot["leaving"]),
        seconds_passed=passed,
        seconds_left=seconds_left(
            trials, planned=planned, evaluations=told["evaluations_per_trial"], passed=passed
        )
        if told and search.state == "running"
        else None,
        age_of_driver=now - told["written_at"] if told else None,
        age_of_workers=_age(slots, "last_word_at", now),
        age_of_step=_age(slots, "last_step_at", now),
        run_url=told.get("run_url", ""),
    )


def _told(file: Path) -> dict[str, Any]:
    """Its driver's word; nothing of a search from before there was any. Raises ArtifactError."""
    if not file.is_file():
        return {}
    try:
        return read_state(file)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"'{file}' cannot be read ({error}). A search that runs writes it anew in some seconds."
        ) from error


def _age(slots: list[dict[str, Any]], name: str, now: float) -> float | None:
    """Of the youngest sign."""
    times = [slot[name] for slot in slots if slot[name] is not None]
    return now - max(times) if times else None
