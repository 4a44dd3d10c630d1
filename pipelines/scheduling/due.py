"""Which time of a schedule is due? Pure: from what has been started and the clock."""

import hashlib
from dataclasses import dataclass

from pipelines.scheduling.schedules import ScheduleConfig


@dataclass(frozen=True)
class Due:
    """One time of a schedule. `time` is what cron says, `start` the same with jitter; both in
    seconds since 1970.
    """

    schedule: ScheduleConfig
    time: float
    start: float
    missed: bool = False

    @property
    def occasion(self) -> str:
        """The same for everybody who computes it."""
        return f"{self.schedule.name}-{int(self.time)}"


def due(schedule: ScheduleConfig, *, since: float, now: float) -> Due | None:
    """The latest time after `since` that is due `now`; None where there is none, or where it is to
    be skipped because it was missed. Earlier ones that were missed beside it are not made up for.
    """
    latest = None
    for time in schedule.times(since):
        if start_of(schedule, time) > now:
            break
        latest = time
    if latest is None:
        return None
    missed = now - start_of(schedule, latest) > schedule.late_seconds
    found = Due(schedule, latest, start_of(schedule, latest), missed)
    return None if missed and schedule.missed == "skip" else found


def upcoming(schedule: ScheduleConfig, *, now: float) -> Due:
    """The next time from `now` on."""
    for time in schedule.times(now - schedule.jitter_seconds - 60):
        if start_of(schedule, time) > now:
            return Due(schedule, time, start_of(schedule, time))
    raise ValueError(f"'{schedule.cron}' never comes true again")


def start_of(schedule: ScheduleConfig, time: float) -> float:
    """The time put off by its jitter, which is drawn from name and time."""
    if not schedule.jitter_seconds:
        return time
    digest = hashlib.sha256(f"{schedule.name} {int(time)}".encode()).digest()
    return time + int.from_bytes(digest[:4], "big") % (schedule.jitter_seconds + 1)


def retry_at(schedule: ScheduleConfig, *, ended: float, attempt: int) -> float | None:
    """When the job of an attempt (from 1) that failed at `ended` is started again; None: never."""
    if attempt > schedule.retries:
        return None
    return ended + float(schedule.retry_seconds * 2 ** (attempt - 1))
