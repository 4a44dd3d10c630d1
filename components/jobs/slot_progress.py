"""How far a slot is with each of its jobs, for whoever asks while it works: what its ranks told
last.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.jobs.flight_record import FlightRecord
    from components.jobs.job import Job


@dataclass(frozen=True)
class SlotProgress:
    """`job`: the id of one that it works at, "" where it waits for one; `ranks`: of its workers, 0
    while they start; `step`: of that job, 0 before the first; `steps_per_second`: over its last
    steps; `last_step_at`, `last_word_at`: unix times, None where there was none; `leaving`: why its
    workers leave, "" where they stay.
    """

    job: str
    ranks: int
    step: int = 0
    steps_per_second: float | None = None
    last_step_at: float | None = None
    last_word_at: float | None = None
    leaving: str = ""


def slot_progress(
    flight: "FlightRecord", job: "Job | None", *, ranks: int, leaving: str
) -> SlotProgress:
    """Of what is known of its present workers."""
    name, heard = "" if job is None else job.id, flight.last_heard
    steps = () if job is None else flight.steps(0, job)
    if not steps:
        return SlotProgress(name, ranks, last_word_at=heard, leaving=leaving)
    passed = steps[-1].ended_at - steps[0].ended_at
    return SlotProgress(
        name,
        ranks,
        step=steps[-1].number,
        steps_per_second=(len(steps) - 1) / passed if passed > 0 else None,
        last_step_at=steps[-1].ended_at,
        last_word_at=heard,
        leaving=leaving,
    )
