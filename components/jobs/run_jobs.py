"""The driver's loop: keep workers busy with jobs that the caller names as results come in.

Search (through Ray Tune, which has a loop of its own for its trials), comparison, study and train
differ in who says what is next; what becomes of a job is the same.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from components.jobs.events import Event, Failed, Finalized, Left, Trained, ends
from components.jobs.job import Job
from components.jobs.repetition import Attempts, given_up
from components.jobs.smaller_batches import fitting, infeasible, smaller
from components.jobs.workers import Workers
from components.training.outcomes import FinalEvaluation


@dataclass(frozen=True)
class JobResult:
    """What became of a job. `outcome`: completed, stopped, diverged, infeasible, failed or lost;
    `trained` and `final`: what was told of each part, None where it was not done; `seconds`: wall
    time.
    """

    job: Job
    outcome: str
    reason: str
    trained: Trained | None = None
    final: FinalEvaluation | None = None
    seconds: float = 0.0


@dataclass
class _Running:
    job: Job
    """What is left of what was asked."""
    asked: Job
    started: float
    attempts: Attempts
    trained: Trained | None = None


def run_jobs(
    workers: Workers,
    next_job: Callable[[], Job | None],
    *,
    on_result: Callable[[JobResult], None],
    on_event: Callable[[Event], None] = lambda event: None,
    max_failures: int = 1,
) -> None:
    """Keep the workers busy until `next_job` has nothing more while nothing runs.

    `next_job` is asked whenever there is room and may know more after each `on_result`; None:
    nothing now. `on_event` gets what is told of a job as it comes. A job that fails is given up
    after `max_failures` repetitions (lost workers: repetition.py; want of memory:
    smaller_batches.py), at once where its input is wrong, and told as a result; it stops no other.
    One that left its place is given again, however often. All callbacks run in the caller's thread.
    """
    running: dict[str, _Running] = {}
    repeated: deque[_Running] = deque()

    def handle(event: Event) -> None:
        current = running.get(event.job_id)
        if current is None:
            return
        on_event(event)
        result = _taken(current, event)
        if isinstance(event, Left) or (isinstance(event, Failed) and _again(current, event)):
            repeated.append(current)
        elif result is not None:
            del running[event.job_id]
            on_result(replace(result, seconds=time.monotonic() - current.started))

    while True:
        # What is to be repeated may have to wait: the place it had may be gone.
        while len(running) - len(repeated) < workers.capacity:
            if repeated:
                workers.start(repeated.popleft().job)
            elif (job := next_job()) is not None:
                fitted = fitting(job)
                running[job.id] = _Running(fitted, job, time.monotonic(), Attempts(max_failures))
                workers.start(fitted)
            else:
                break
        if not running:
            return
        workers.deliver(handle)


def _again(current: _Running, failed: Failed) -> bool:
    """Whether the job is repeated after this failure, cut smaller where memory did not suffice."""
    if failed.cause != "memory":
        return current.attempts.another(failed)
    cut = smaller(current.job)
    current.job = cut or current.job
    return cut is not None


def _taken(current: _Running, event: Event) -> JobResult | None:
    """Keep what an event tells; the result where nothing more comes."""
    current.attempts.saw(event)
    over = ends(event, current.job)
    match event:
        case Trained():
            current.trained = event
            current.job = replace(current.job, train=False)
            if over:
                return JobResult(current.asked, event.outcome, event.reason, event)
        case Finalized(final=final):
            reason = "evaluated on test documents"
            return JobResult(current.asked, "completed", reason, current.trained, final)
        case Failed(cause=cause):
            told = infeasible(event) if cause == "memory" else event
            return JobResult(current.asked, given_up(told), told.reason, current.trained)
    return None


def run_one(
    workers: Workers,
    job: Job,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
    max_failures: int = 0,
) -> JobResult:
    """Carry out one job and give its result."""
    results: list[JobResult] = []
    left = [job]
    run_jobs(
        workers,
        lambda: left.pop() if left else None,
        on_result=results.append,
        on_event=on_event,
        max_failures=max_failures,
    )
    return results[0]
