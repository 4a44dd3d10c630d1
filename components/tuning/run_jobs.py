"""Run trainings on trial slots in an order that the caller decides as results come in. No Ray Tune:
nothing is scheduled early or stopped, and no slot idles between one method's few trials and the
next's.

One loop in the driver gives work out and takes messages in; a job is a training, its evaluation on
test documents, or both.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray

from components.config import TrainConfig
from components.tuning.assignments import Assignment, Message


@dataclass(frozen=True)
class Job:
    """`folder`: where the checkpoint lies; `train` and `finalize`: what is asked for; a training
    goes on from its checkpoint where there is one.
    """

    name: str
    config: TrainConfig
    data_folder: str
    folder: Path
    train: bool
    finalize: bool


@dataclass(frozen=True)
class JobResult:
    """What became of a job. `outcome`: completed, diverged or failed; `trained` and `finalized`:
    the slot's answers (see slot_worker), None where that part was not done; `seconds`: wall time.
    """

    job: Job
    outcome: str
    reason: str
    trained: Mapping[str, Any] | None = None
    finalized: Mapping[str, Any] | None = None
    seconds: float = 0.0


@dataclass
class _Running:
    job: Job
    started: float
    sequence: int = -1
    kind: str = "train"
    failures: int = 0
    trained: dict[str, Any] | None = None
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)


def run_jobs(
    slots: tuple[Any, ...],
    next_job: Callable[[], Job | None],
    *,
    on_result: Callable[[JobResult], None],
    on_report: Callable[[Job, Mapping[str, Any]], None] = lambda _, __: None,
    max_failures: int = 1,
) -> None:
    """Keep every slot busy until `next_job` has nothing more while nothing runs.

    `next_job` is asked whenever a slot is free and may know more after each `on_result`; None:
    nothing now. `on_report` gets each evaluation of a training. A job that fails is given up after
    `max_failures` repetitions and told as a result; it stops no other. All callbacks run in the
    caller's thread.
    """
    running: dict[int, _Running] = {}
    while True:
        for index, slot in enumerate(slots):
            if index not in running and (job := next_job()) is not None:
                running[index] = _start(slot, _Running(job, time.monotonic()))
        if not running:
            return
        for index, message in _messages(slots, running):
            current = running.get(index)
            if current is None:
                continue
            result = _taken(
                slots[index], current, message, on_report=on_report, max_failures=max_failures
            )
            if result is not None:
                del running[index]
                on_result(replace(result, seconds=time.monotonic() - current.started))


def _start(slot: Any, current: _Running) -> _Running:
    job = current.job
    current.kind = "train" if job.train and current.trained is None else "finalize"
    assignment = Assignment(
        "train" if current.kind == "train" else "finalize",
        job.config,
        job.data_folder,
        str(job.folder),
        str(job.folder / "adapter"),
    )
    current.sequence = ray.get(slot.assign.remote(assignment))
    return current


def _messages(slots: tuple[Any, ...], running: Mapping[int, _Running]) -> list[tuple[int, Message]]:
    """What the slots have to tell; waits about a second where that is nothing."""
    asked = {
        index: slots[index].next_messages.remote(current.sequence, current.holder)
        for index, current in running.items()
    }
    return [(index, message) for index, answer in asked.items() for message in ray.get(answer)]


def _taken(
    slot: Any,
    current: _Running,
    message: Message,
    *,
    on_report: Callable[[Job, Mapping[str, Any]], None],
    max_failures: int,
) -> JobResult | None:
    """Go on with a job after a message; its result where it is over."""
    job, values = current.job, message.values
    if message.kind == "report":
        on_report(job, values)
        return None
    if message.kind == "error":
        current.failures += 1
        if values["user"] or current.failures > max_failures:
            return JobResult(job, "failed", values["error"], current.trained)
        _start(slot, current)
        return None
    if current.kind == "finalize":
        return JobResult(job, "completed", "evaluated on test documents", current.trained, values)
    current.trained = dict(values)
    if values["outcome"] == "completed" and job.finalize:
        _start(slot, current)
        return None
    return JobResult(job, values["outcome"], values["reason"], current.trained)
