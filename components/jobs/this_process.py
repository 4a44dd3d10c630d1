"""Workers that are this process itself: without Ray, alone or as one of several ranks that all go
through the same jobs (torchrun).

An error is no event here but raised: there is no other process that could have caught it.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from components.jobs.carry_out import carry_out
from components.jobs.events import Event
from components.jobs.job import Job

if TYPE_CHECKING:
    from components.training.session import Session


class ThisProcess:
    """See Workers. A started job waits; `deliver` carries it out to its end, handing events on as
    they come, those of evaluations on rank 0 alone.
    """

    def __init__(self, session: "Session", *, code_version: str) -> None:
        self.session, self.code_version = session, code_version
        self._waiting: deque[Job] = deque()

    @property
    def capacity(self) -> int:
        return 1

    def start(self, job: Job) -> None:
        self._waiting.append(job)

    def deliver(self, handle: Callable[[Event], None]) -> None:
        if self._waiting:
            job = self._waiting.popleft()
            carry_out(self.session, job, emit=handle, code_version=self.code_version)

    def drop(self, job_id: str) -> None:
        self._waiting = deque(job for job in self._waiting if job.id != job_id)
