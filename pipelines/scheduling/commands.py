"""What `prefixprop schedule` does, from a file of schedules and addresses."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pipelines.promote import STATE
from pipelines.scheduling import scheduler
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.due import start_of, upcoming
from pipelines.scheduling.notify import notify
from pipelines.scheduling.ray_jobs import RayJobs
from pipelines.scheduling.scheduler import JobStatus
from pipelines.scheduling.schedules import ScheduleConfig
from pipelines.scheduling.state import States

if TYPE_CHECKING:
    from pipelines.local_cluster.addresses import Addresses


@dataclass(frozen=True)
class ScheduleReport:
    """One line of `prefixprop schedule list`. `next_start` in seconds since 1970, None while it is
    paused; `job` is the one that runs, `retry_at` when a failed one is started again.
    """

    name: str
    command: tuple[str, ...]
    cron: str
    timezone: str
    paused: bool
    next_start: float | None
    job: str
    retry_at: float | None


@dataclass(frozen=True)
class Start:
    """One coming start of a schedule: by the clocks of its time zone, and in UTC."""

    name: str
    local: str
    utc: str


def states_of(tracking_uri: str | None) -> States:
    """The table of states, in the database of the leases."""
    return States(shared_engine(tracking_uri, STATE))


def run(
    states: States,
    schedules: Sequence[ScheduleConfig],
    addresses: "Addresses",
    *,
    say: Callable[[str], None],
    now: Callable[[], float] = time.time,
) -> None:
    """Start what is due until interrupted. `now`: seconds since 1970."""

    def told(schedule: ScheduleConfig, job: str, status: JobStatus) -> None:
        if status != "running":
            notify(schedule.notify, schedule=schedule.name, job=job, status=status, say=say)

    say(f"{len(schedules)} schedules; Ctrl-C ends the scheduler and no job")
    scheduler.run(schedules, states, _jobs(addresses), say=say, notify=told, now=now)


def trigger(states: States, schedule: ScheduleConfig, addresses: "Addresses") -> str:
    """Start a job now; returns its submission id."""
    return scheduler.trigger(schedule, states, _jobs(addresses), now=time.time())


def pause(states: States, schedule: ScheduleConfig) -> None:
    scheduler.pause(states, schedule.name, now=time.time())


def resume(states: States, schedule: ScheduleConfig) -> None:
    scheduler.resume(states, schedule.name, now=time.time())


def is_paused(states: States, schedule: ScheduleConfig) -> bool:
    return states.of(schedule.name, now=time.time()).paused


def overview(states: States, schedules: Sequence[ScheduleConfig]) -> tuple[ScheduleReport, ...]:
    """Every schedule and what comes next."""
    now, found = time.time(), []
    for each in schedules:
        state = states.of(each.name, now=now)
        found.append(
            ScheduleReport(
                name=each.name,
                command=each.command,
                cron=each.cron,
                timezone=each.timezone,
                paused=state.paused,
                next_start=None if state.paused else upcoming(each, now=now).start,
                job=state.submission_id,
                retry_at=state.retry_at,
            )
        )
    return tuple(found)


def coming(
    schedules: Sequence[ScheduleConfig], *, count: int, now: float | None = None
) -> tuple[Start, ...]:
    """The next `count` starts of each schedule from `now` on (seconds since 1970; None: the
    clock's), jitter included, whether it is paused or not.
    """
    found = []
    for each in schedules:
        first = upcoming(each, now=time.time() if now is None else now)
        for moment in itertools.islice(each.times(first.time - 60), count):
            start, zone = start_of(each, moment), ZoneInfo(each.timezone)
            local, utc = (
                datetime.fromtimestamp(start, clock).isoformat(" ") for clock in (zone, UTC)
            )
            found.append(Start(each.name, local, utc))
    return tuple(found)


def _jobs(addresses: "Addresses") -> RayJobs:
    from pipelines.local_cluster.addresses import check_jobs, is_local

    return RayJobs(
        check_jobs(addresses.jobs_address, os.environ),
        environ=os.environ,
        working_dir=Path.cwd(),
        home=Path.cwd() if is_local(addresses) else None,
    )
