"""The scheduler: starts what is due, as jobs, and starts again what failed. It trains nothing in
its own process, and any number of them may run at once.

A job's submission id follows from schedule, time and attempt, and a Ray cluster takes an id once.
So a scheduler that is killed between submitting and writing it down submits the same again and is
told that it runs already; two schedulers at the same time start one job.
"""

import dataclasses
import time as clock
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from components.errors import ClusterError
from pipelines.scheduling.due import due, retry_at
from pipelines.scheduling.schedules import ScheduleConfig
from pipelines.scheduling.state import State, States

JobStatus = Literal["running", "succeeded", "refused", "failed", "unknown"]
"""`refused`: the gate did not promote, which is an answer and no failure."""
POLL_SECONDS = 5.0
Say = Callable[[str], None]


class Jobs(Protocol):
    """Where jobs run."""

    def start(self, command: Sequence[str], *, submission_id: str) -> None:
        """Start the command, or do nothing where a job of this id is known. Raises ClusterError
        where the cluster cannot be reached or refuses the job.
        """

    def status(self, submission_id: str) -> JobStatus:
        """How the job is; `unknown` where the cluster does not know the id. Raises ClusterError."""


def run(
    schedules: Sequence[ScheduleConfig],
    states: States,
    jobs: Jobs,
    *,
    say: Say,
    notify: Callable[[ScheduleConfig, str, JobStatus], None] = lambda *_: None,
    now: Callable[[], float] = clock.time,
    sleep: Callable[[float], None] = clock.sleep,
    rounds: int | None = None,
) -> None:
    """Look every few seconds, for ever (or `rounds` times). A cluster or database that is away is
    said and tried again; nothing that was due meanwhile is forgotten.
    """
    done, away = 0, ""
    while rounds is None or done < rounds:
        for schedule in schedules:
            try:
                step(schedule, states, jobs, now=now(), say=say, notify=notify)
                away = ""
            except ClusterError as error:
                if str(error) != away:
                    say(f"{schedule.name}: {error} Trying again.")
                away = str(error)
        done += 1
        if rounds is None or done < rounds:
            sleep(POLL_SECONDS)


def step(
    schedule: ScheduleConfig,
    states: States,
    jobs: Jobs,
    *,
    now: float,
    say: Say,
    notify: Callable[[ScheduleConfig, str, JobStatus], None] = lambda *_: None,
) -> None:
    """What one schedule needs now: nothing, a look at its job, a retry, or the next job."""
    state = states.of(schedule.name, now=now)
    if state.submission_id and state.retry_at is None:
        state = _watched(schedule, state, states, jobs, now=now, say=say, notify=notify)
        if state.submission_id and state.retry_at is None:
            return  # it still runs: the next one waits, and the latest that is due then follows
    if state.paused:
        return
    if state.retry_at is not None:
        if now >= state.retry_at:
            _start(schedule, state, states, jobs, state.occasion, state.attempt + 1, state.since)
            say(f"{schedule.name}: started again, attempt {state.attempt + 1}")
        return
    found = due(schedule, since=state.since, now=now)
    if found is not None:
        _start(schedule, state, states, jobs, found.occasion, 1, found.time)
        say(f"{schedule.name}: started{' late' if found.missed else ''}")


def _start(
    schedule: ScheduleConfig,
    state: State,
    states: States,
    jobs: Jobs,
    occasion: str,
    attempt: int,
    since: float,
) -> None:
    """Submit first, then write down: the id makes a second submission harmless."""
    submission_id = f"{occasion}-{attempt}"
    jobs.start(schedule.command, submission_id=submission_id)
    after = State(schedule.name, state.paused, since, occasion, attempt, submission_id)
    states.change(state, after)


def _watched(
    schedule: ScheduleConfig,
    state: State,
    states: States,
    jobs: Jobs,
    *,
    now: float,
    say: Say,
    notify: Callable[[ScheduleConfig, str, JobStatus], None],
) -> State:
    """The state after a look at its job."""
    status = jobs.status(state.submission_id)
    if status == "running":
        return state
    after = dataclasses.replace(state, submission_id="", retry_at=None)
    if status in ("failed", "unknown"):
        again = retry_at(schedule, ended=now, attempt=state.attempt)
        after = dataclasses.replace(after, retry_at=again)
    if states.change(state, after):
        left = " It is started again." if after.retry_at is not None else ""
        say(f"{schedule.name}: job {state.submission_id}: {status}.{left}")
        notify(schedule, state.submission_id, status)
    return states.of(schedule.name, now=now)


def pause(states: States, name: str, *, now: float) -> None:
    """Start nothing more; what runs goes on."""
    _set(states, name, now, paused=True)


def resume(states: States, name: str, *, now: float) -> None:
    """Start again from now on; what was due during the pause is not made up for."""
    _set(states, name, now, paused=False, since=now)


def trigger(schedule: ScheduleConfig, states: States, jobs: Jobs, *, now: float) -> str:
    """Start a job now, whatever its schedule says; returns its submission id."""
    state = states.of(schedule.name, now=now)
    if state.submission_id and jobs.status(state.submission_id) == "running":
        return state.submission_id
    occasion = f"{schedule.name}-{int(now)}"
    _start(schedule, state, states, jobs, occasion, 1, state.since)
    return f"{occasion}-1"


def _set(states: States, name: str, now: float, **changes: object) -> None:
    while True:
        before = states.of(name, now=now)
        after = dataclasses.replace(before, **changes)  # type: ignore[arg-type]
        if before == after or states.change(before, after):
            return
