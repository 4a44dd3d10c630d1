"""Schedules: a YAML file under version control says what runs when.

schedules:
  - name: weekly
    command: [retrain, weekly.yaml]
    cron: "0 3 * * 1"
    timezone: Europe/Berlin
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from components.config.loading import read_yaml
from components.settings import Config, Name, Texts, validate
from pipelines.scheduling.notify import NotifyConfig

COMMANDS = ("retrain", "search", "compare", "evaluate", "predict", "bench")
"""What can be scheduled: the long commands that run to an end by themselves."""


class ScheduleConfig(Config):
    """One thing that runs again and again, as a job on the Ray cluster."""

    name: Name
    """Name of the schedule: letters, digits, dot, dash, underscore."""
    command: Texts
    """The command and its arguments, as typed after `prefixprop`."""
    cron: str
    """When: five fields (minute, hour, day of month, month, day of week), as cron reads them."""
    timezone: str = "UTC"
    """Time zone of the five fields, e.g. Europe/Berlin. An hour that summer time leaves out is made
    up for right after it; one that comes twice counts once.
    """
    missed: Literal["once", "skip"] = "once"
    """What happens to times that passed while no scheduler was there: the latest one is made up
    for, or none.
    """
    late_seconds: Annotated[int, Field(gt=0)] = 300
    """From how late on a time counts as missed, in seconds."""
    jitter_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """Each time is put off by up to so many seconds, the same for everybody who computes it."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a job that failed is started again."""
    retry_seconds: Annotated[int, Field(gt=0)] = 300
    """Time before the first retry, in seconds; it doubles with each further one."""

    notify: NotifyConfig = NotifyConfig()
    """Who is told how its jobs ended."""

    @field_validator("command")
    @classmethod
    def _known_command(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if not command or command[0] not in COMMANDS:
            raise ValueError(f"starts with one of {', '.join(COMMANDS)}, e.g. [retrain, spec.yaml]")
        return command

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError("is no time zone; give one such as UTC or Europe/Berlin") from error
        return timezone

    @field_validator("cron")
    @classmethod
    def _cron_expression(cls, cron: str) -> str:
        try:
            next(CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(
                "is no cron expression that ever comes true; give five fields, e.g. '0 3 * * 1' "
                "for Mondays at 3:00"
            ) from error
        return cron

    def times(self, after: float) -> Iterator[float]:
        """The times after `after` (both in seconds since 1970), without jitter."""
        start = datetime.fromtimestamp(after, ZoneInfo(self.timezone))
        for time in CronSim(self.cron, start):
            yield time.timestamp()


class Schedules(Config):
    """A file of schedules."""

    schedules: Annotated[tuple[ScheduleConfig, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _different_names(self) -> "Schedules":
        names = [each.name for each in self.schedules]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"schedules holds the name '{repeated[0]}' twice; rename one")
        return self


def load_schedules(path: Path) -> tuple[ScheduleConfig, ...]:
    """Read a file of schedules. Raises ConfigError."""
    return validate(Schedules, read_yaml(path)).schedules
