"""What each worker of a trial slot runs: load the backbone once, then carry out the jobs that rank
0 takes from the slot, until it is closed.
"""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.jobs.events import Event
from components.jobs.job import SlotSettings

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle


def serve(config: dict[str, Any]) -> None:
    """The training function that Ray Train runs on every worker."""
    settings: SlotSettings = config["settings"]
    slot: ActorHandle = config["slot"]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import ray.train

    from components.jobs.watchdog import Words
    from components.training.pulse import PULSE

    # Before anything heavy: from now on it is noticed where this rank is stopped.
    Words(slot, ray.train.get_context().get_world_rank(), lambda: PULSE.beats)
    ray.get(slot.workers_placed.remote())
    import torch

    from components.jobs.carry_out import carry_out
    from components.jobs.node_cache import prepare_on_this_node
    from components.training.session import open_session
    from components.training.world import join_world

    _check_code(settings.code_fingerprint)
    check_storage(settings.storage_path)
    torch.set_num_threads(max(1, int(settings.cluster.cpus_per_worker)))
    world = join_world(torch.device(device_of_worker(settings.cluster.gpus_per_worker)))
    session = open_session(settings.config, world, cache_path=settings.cache_path)
    while True:
        is_open, assignment = world.broadcast(
            ray.get(slot.take.remote()) if world.is_main else None
        )
        if not is_open:
            return
        if assignment is None:
            continue
        if settings.cluster.cache == "per_node":
            prepare_on_this_node(session, assignment.job, cache_path=settings.cache_path)
        outbox = Outbox(slot, assignment.id, speaks=world.is_main)
        carry_out(
            session,
            assignment.job,
            emit=outbox.send,
            should_stop=outbox.should_stop,
            code_version=settings.code_version,
        )
        outbox.wait_until_sent()


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

    def __init__(self, slot: "ActorHandle", assignment_id: str, *, speaks: bool = True) -> None:
        self.slot, self.assignment_id, self.speaks = slot, assignment_id, speaks
        self.sent = 0
        self._last: ObjectRef | None = None

    def send(self, event: Event) -> None:
        """Send without waiting."""
        if self.speaks:
            self._last = self.slot.tell.remote(self.assignment_id, self.sent, event)
            self.sent += 1

    def wait_until_sent(self) -> None:
        """Return when the slot has the last event; raises where the slot is gone."""
        import ray

        if self._last is not None:
            ray.get(self._last)

    def should_stop(self) -> bool:
        import ray

        return bool(ray.get(self.slot.should_stop.remote(self.assignment_id)))


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
