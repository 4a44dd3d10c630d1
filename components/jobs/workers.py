"""Whoever carries out jobs: slots on a Ray cluster (slots.py), or this process
(this_process.py).
"""

from collections.abc import Callable
from typing import Protocol

from components.jobs.events import Event
from components.jobs.job import Job


class Workers(Protocol):
    """A job given to `start` is told of by `deliver` until an event ends it (events.ends)."""

    @property
    def capacity(self) -> int:
        """Jobs at a time; fewer than before where some of the workers were lost for good. Raises
        ClusterError where all were.
        """
        ...

    def start(self, job: Job) -> None:
        """Take a job; at most `capacity` may be there. Raises ClusterError where nobody takes it
        within the time that the workers allow.
        """
        ...

    def deliver(self, handle: Callable[[Event], None]) -> None:
        """Hand on what there is to tell; waits about a second where that is nothing yet."""
        ...

    def drop(self, job_id: str) -> None:
        """End a job after its present step; nothing more is told of it."""
        ...
