"""What each worker of a trial slot runs: load the backbone once, then train what rank 0 is told to,
until the slot is closed.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.tuning.assignments import Assignment, Message, SlotSettings

if TYPE_CHECKING:
    from components.training.session import Session


def serve(config: dict[str, Any]) -> None:
    """The training function that Ray Train runs on every worker."""
    settings: SlotSettings = config["settings"]
    slot = config["slot"]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import ray

    ray.get(slot.workers_placed.remote())
    import ray.train.torch
    import torch

    from components.training.session import open_session
    from components.training.world import join_world

    _check_code(settings.code_fingerprint)
    torch.set_num_threads(max(1, int(settings.cluster.cpus_per_worker)))
    world = join_world(ray.train.torch.get_device())
    session = open_session(settings.config, world, cache_path=Path(settings.cache_path))
    done = 0
    while True:
        sequence, assignment = world.broadcast(
            ray.get(slot.next_assignment.remote(done)) if world.is_main else None
        )
        if sequence == -1:
            return
        if sequence == done or assignment is None:
            continue
        outbox = Outbox(slot, sequence)
        message = _run(session, assignment, settings, outbox)
        if world.is_main:
            ray.get(outbox.send(message))
        done = sequence


class Outbox:
    """Rank 0's way to the slot during one assignment. Messages are numbered, because those that
    nobody waits for may overtake each other.
    """

    def __init__(self, slot: Any, sequence: int) -> None:
        self.slot, self.sequence, self.sent = slot, sequence, 0

    def send(self, message: Message) -> Any:
        """Returns the reference to wait for, or not."""
        self.sent += 1
        return self.slot.tell.remote(self.sequence, self.sent - 1, message)

    def should_stop(self) -> bool:
        import ray

        return bool(ray.get(self.slot.should_stop.remote(self.sequence)))


def _check_code(expected: str) -> None:
    """Raise ClusterError where this worker runs other code than the driver: results would belong to
    neither.
    """
    from components.errors import ClusterError
    from components.registry import code_fingerprint

    if code_fingerprint() != expected:
        raise ClusterError(
            f"A worker runs code {code_fingerprint()}, the driver {expected}. Submit with "
            "--working-dir (or install the same version on every node), so that both run the "
            "same."
        )


def _run(
    session: "Session", assignment: Assignment, settings: SlotSettings, outbox: Outbox
) -> Message:
    from components.atomic_folder import settled
    from components.data import open_prepared
    from components.training.finalize import finalize
    from components.training.peak_memory import peak_bytes, start_peak
    from components.training.trial import run_trial

    data = open_prepared(Path(assignment.data_folder))
    checkpoint = Path(assignment.trial_folder) / "checkpoint"
    if assignment.kind == "finalize":
        assert assignment.artifact_folder is not None
        finalized = finalize(
            session,
            data,
            assignment.config,
            checkpoint_folder=checkpoint,
            artifact_folder=Path(assignment.artifact_folder),
            code_version=settings.code_version,
        )
        return Message("end", {**asdict(finalized), "folder": str(finalized.folder)})
    start_peak(session.world.device)
    resume = session.world.broadcast(
        session.world.is_main and (settled(checkpoint) / "state.json").is_file()
    )
    result = run_trial(
        session,
        data,
        assignment.config,
        checkpoint_folder=checkpoint,
        report=lambda report: outbox.send(Message("report", asdict(report))),
        should_stop=outbox.should_stop,
        resume=resume,
    )
    (peak,) = session.world.max([float(peak_bytes(session.world.device) or 0)])
    return Message(
        "end",
        {
            "peak_memory_bytes": int(peak) or None,
            "outcome": result.outcome,
            "reason": result.reason,
            "trainable_parameters": result.trainable_parameters,
            "progress": asdict(result.progress),
        },
    )
