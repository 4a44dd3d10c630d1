"""What a worker does for a job, in whatever process it runs; called by every rank together.

`job_steps` is the same as a generator of micro-batches, for workers that carry out several jobs at
a time (slot_worker.py).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from components.jobs.events import Evaluated, Event, Finalized, Left, Trained
from components.jobs.job import Job
from components.training.outcomes import Outcome, Wanted

if TYPE_CHECKING:
    from components.training.micro_batch import Steps
    from components.training.session import Session
    from components.training.trial import TrialResult


def carry_out(
    session: "Session",
    job: Job,
    *,
    emit: Callable[[Event], None],
    wanted: Callable[[], Wanted] = lambda: "steps",
    code_version: str,
    ranks: int | None = None,
) -> None:
    """Do what the job asks. Events are emitted on every rank, but those of evaluations on rank 0
    alone. A training goes on from its checkpoint where there is one; one that is to be evaluated
    only, and whose checkpoint is damaged or gone, is trained again. `ranks`: see run_trial. Raises
    what ended it.
    """
    from components.training.micro_batch import driven_alone

    driven_alone(
        job_steps(session, job, emit=emit, wanted=wanted, code_version=code_version, ranks=ranks)
    )


def job_steps(
    session: "Session",
    job: Job,
    *,
    emit: Callable[[Event], None],
    wanted: Callable[[], Wanted],
    code_version: str,
    ranks: int | None,
) -> "Steps[None]":
    """The same, driven by the caller to its end. Its last evaluation, of the best adapter on all
    documents, asks for nothing: it runs alone while others wait. A peak of memory is that of all
    jobs since the last of them began.
    """
    from components.data import open_prepared
    from components.training.checkpoint import settle
    from components.training.finalize import finalize
    from components.training.peak_memory import peak_bytes, start_peak
    from components.training.trial import trial_steps

    data, world = open_prepared(job.data_folder), session.world
    found = world.broadcast(settle(job.checkpoint) if world.is_main else None)
    # What was trained and got lost is trained again: it gives the same.
    if job.train or found != "whole":
        start_peak(world.device)
        result = yield from trial_steps(
            session,
            data,
            job.cut,
            checkpoint_folder=job.checkpoint,
            report=lambda report: emit(Evaluated(job.id, report)),
            wanted=wanted,
            resume=found != "none",
            ranks=ranks,
        )
        if result.outcome == "left":
            return emit(Left(job.id, result.reason, result.progress.step))
        (peak,) = world.max([float(peak_bytes(world.device) or 0)])
        emit(_trained(job.id, result, result.outcome, peak_memory_bytes=int(peak) or None))
        if result.outcome != "completed":
            return
    if job.evaluate:
        final = finalize(
            session,
            data,
            job.config,
            checkpoint_folder=job.checkpoint,
            artifact_folder=job.artifact,
            training=job.cut.training,
            code_version=code_version,
            ranks=ranks,
        )
        emit(Finalized(job.id, final))


def _trained(
    job_id: str, result: "TrialResult", outcome: Outcome, *, peak_memory_bytes: int | None
) -> Trained:
    return Trained(
        job_id,
        outcome,
        result.reason,
        result.progress,
        result.trainable_parameters,
        peak_memory_bytes,
    )
