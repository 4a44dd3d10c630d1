"""What each worker of a trial slot runs: load the backbone once, then carry out the jobs that rank
0 takes from the slot, as many at a time as it has capacity, until it is closed.
"""

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.jobs.event_log import EventLog, event_log, tell_event
from components.jobs.events import Event
from components.jobs.job import Assignment, Job, SlotSettings
from components.jobs.same_versions import check_builds, check_versions

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    from components.training.checks import Checks
    from components.training.micro_batch import Steps
    from components.training.outcomes import Wanted
    from components.training.session import Session
    from components.training.world import World


def serve(config: dict[str, Any]) -> None:
    """The training function that Ray Train runs on every worker."""
    settings: SlotSettings = config["settings"]
    slot: ActorHandle = config["slot"]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import ray.train

    from components.jobs.words import Words

    # Before anything heavy: from now on it is noticed where this rank is stopped.
    rank = ray.train.get_context().get_world_rank()
    words = Words(slot, rank)
    log = event_log(
        settings.storage_path, f"rank{rank}", experiment=settings.experiment, echo=True
    ).of(rank=rank)
    try:
        _serve(settings, slot, log)
    except Exception as error:
        log.tell("failed", error=f"{type(error).__name__}: {error}")
        words.last(error)
        raise


def _serve(settings: SlotSettings, slot: "ActorHandle", log: EventLog) -> None:
    import ray.train

    ranks = ray.train.get_context().get_world_size()
    ray.get(slot.workers_placed.remote(ranks))
    import torch

    from components.training.session import open_session
    from components.training.world import join_world

    same = check_versions(settings.versions)
    check_storage(settings.storage_path)
    torch.set_num_threads(max(1, int(settings.cluster.cpus_per_worker)))
    world = join_world(torch.device(device_of_worker(settings.cluster.gpus_per_worker)))
    build = torch.version.cuda or "none"
    check_builds(world, build=build)
    log.tell("same versions as the driver", **same, cuda=build, device=str(world.device))
    session = open_session(settings.config, world, cache_path=settings.cache_path)
    log.tell("backbone loaded", ranks=ranks)
    serve_side_by_side(settings, slot, session, log)


def serve_side_by_side(
    settings: SlotSettings, slot: "ActorHandle", session: "Session", log: EventLog
) -> None:
    """Carry out up to settings.capacity jobs at a time, until the slot wants no more and those at
    hand have ended. Between two rounds of micro-batches the slot is asked for another one where
    there is room, and waited for only where nothing else is to do.
    """
    from components.training.checks import Checks
    from components.training.side_by_side import SideBySide

    world, at_work = session.world, SideBySide[None]()
    outboxes: dict[str, Outbox] = {}
    checks, rounds = Checks(every_step=world.device.type == "cpu"), 0
    while True:
        if not at_work or (len(at_work) < settings.capacity and checks.due(rounds)):
            is_open, assignment, to_next = _asked(world, slot, checks, rounds, idle=not at_work)
            checks.made(rounds, time.monotonic(), steps_to_next=to_next)
            if assignment is not None:
                outbox = outboxes[assignment.id] = _begun(settings, slot, assignment, log, session)
                at_work.add(assignment.id, _steps(settings, session, assignment.job, outbox))
            if not is_open and not at_work:
                return
        for ended in at_work.round():
            outboxes.pop(ended).wait_until_sent()
        rounds += 1


def _asked(
    world: "World", slot: "ActorHandle", checks: "Checks", rounds: int, *, idle: bool
) -> tuple[bool, Assignment | None, int]:
    """On every rank: whether the slot is open, what it gives, and after how many rounds it is asked
    again.
    """
    import ray

    told = None
    if world.is_main:
        is_open, assignment = ray.get(slot.take.remote(wait=idle))
        told = is_open, assignment, checks.steps_to_next(rounds, time.monotonic())
    found: tuple[bool, Assignment | None, int] = world.broadcast(told)
    return found


def _begun(
    settings: SlotSettings,
    slot: "ActorHandle",
    assignment: Assignment,
    log: EventLog,
    session: "Session",
) -> "Outbox":
    """What is to be done before a job's first step."""
    from components.jobs.node_cache import prepare_on_this_node

    if settings.cluster.cache == "per_node":
        prepare_on_this_node(session, assignment.job, cache_path=settings.cache_path)
    of_job = log.of(trial=assignment.job.id)
    of_job.tell("began")
    return Outbox(slot, assignment.id, speaks=session.world.is_main, log=of_job)


def _steps(settings: SlotSettings, session: "Session", job: Job, outbox: "Outbox") -> "Steps[None]":
    from components.jobs.carry_out import job_steps

    return job_steps(
        session,
        job,
        emit=outbox.send,
        wanted=outbox.wanted,
        code_version=settings.code_version,
        ranks=settings.cluster.num_workers,
    )


def device_of_worker(gpus_per_worker: float) -> str:
    """This rank's device, of those that Ray gave to its worker. Raises ClusterError."""
    import ray

    from components.training.devices import rank_device

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return rank_device(
        gpus_per_worker=gpus_per_worker,
        visible=[each.strip() for each in visible.split(",") if each.strip()],
        assigned=[str(each) for each in ray.get_gpu_ids()],
    )


class Outbox:
    """Rank 0's way to the slot during one assignment; other ranks keep silent. Events are numbered,
    because those that nobody waits for may overtake each other.
    """

    def __init__(
        self,
        slot: "ActorHandle",
        assignment_id: str,
        *,
        speaks: bool = True,
        log: EventLog | None = None,
    ) -> None:
        self.slot, self.assignment_id, self.speaks, self.log = slot, assignment_id, speaks, log
        self.sent = 0
        self._last: ObjectRef | None = None

    def send(self, event: Event) -> None:
        """Send without waiting, and log it."""
        if self.log is not None:
            tell_event(self.log, event)
        if self.speaks:
            self._last = self.slot.tell.remote(self.assignment_id, self.sent, event)
            self.sent += 1

    def wait_until_sent(self) -> None:
        """Return when the slot has the last event; raises where the slot is gone."""
        import ray

        if self._last is not None:
            ray.get(self._last)

    def wanted(self) -> "Wanted":
        import ray

        wanted: Wanted = ray.get(self.slot.wanted.remote(self.assignment_id))
        return wanted


def check_storage(folder: Path) -> None:
    """Raise ClusterError where this node does not see what the driver made: one that came after
    the driver had asked all of them (shared_folders.py).
    """
    from components.errors import ClusterError

    if not folder.is_dir():
        raise ClusterError(
            f"cluster.storage_path: node {socket.gethostname()} does not see '{folder}', which the "
            "driver made. Mount the same storage there at this path, or take the node out of the "
            "cluster."
        )
