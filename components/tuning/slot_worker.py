"""What each worker of a trial slot runs: load the backbone once, then train what rank 0 is told to, until the slot is closed."""

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
    import ray.train.torch
    import torch

    from components.training.session import open_session
    from components.training.world import join_world

    _check_code(settings.code_fingerprint)
    torch.set_num_threads(max(1, int(settings.cluster.cpus_per_worker)))
    world = join_world(ray.train.torch.get_device())
    session = open_session(settings.config, world, cache_path=Path(settings.cache_path))
    if world.is_main:
        ray.get(slot.workers_ready.remote())
    done = 0
    while True:
        sequence, assignment = world.broadcast(ray.get(slot.next_assignment.remote(done)) if world.is_main else None)
        if sequence == -1:
            return
        if sequence == done or assignment is None:
            continue
        message = _run(session, assignment, settings, slot, sequence)
        if world.is_main:
            ray.get(slot.tell.remote(sequence, message))
        done = sequence


def _check_code(expected: str) -> None:
    """Raise ClusterError where this worker runs other code than the driver: results would belong to neither."""
    from components.errors import ClusterError
    from components.registry import code_fingerprint

    if code_fingerprint() != expected:
        raise ClusterError(
            f"A worker runs code {code_fingerprint()}, the driver {expected}. Submit with --working-dir (or install the same version on every node), so that both run the same."
        )


def _run(session: "Session", assignment: Assignment, settings: SlotSettings, slot: Any, sequence: int) -> Message:
    import ray

    from components.data import open_prepared
    from components.training.finalize import finalize
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
    resume = session.world.broadcast((checkpoint / "state.json").is_file())
    result = run_trial(
        session,
        data,
        assignment.config,
        checkpoint_folder=checkpoint,
        report=lambda report: slot.tell.remote(sequence, Message("report", asdict(report))),
        should_stop=lambda: ray.get(slot.should_stop.remote(sequence)),
        resume=resume,
    )
    return Message(
        "end",
        {
            "outcome": result.outcome,
            "reason": result.reason,
            "trainable_parameters": result.trainable_parameters,
            "progress": asdict(result.progress),
        },
    )
