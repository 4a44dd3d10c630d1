"""What each worker of a trial slot runs: load the backbone once, then carry out the jobs that rank
0 takes from the slot, until it is closed.
"""

import os
from typing import TYPE_CHECKING, Any

from components.jobs.events import Event
from components.jobs.job import SlotSettings

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

    from components.training.outcomes import Wanted


def serve(config: dict[str, Any]) -> None:
    """The training function that Ray Train runs on every worker."""
    settings: SlotSettings = config["settings"]
    slot: ActorHandle = config["slot"]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import ray.train

    from components.jobs.words import Words

    # Before anything heavy: from now on it is noticed where this rank is stopped.
    words = Words(slot, ray.train.get_context().get_world_rank())
    try:
        _serve(settings, slot)
    except Exception as error:
        words.last(error)
        raise


def _serve(settings: SlotSettings, slot: "ActorHandle") -> None:
    import ray.train

    ray.get(slot.workers_placed.remote(ray.train.get_context().get_world_size()))
    import torch

    from components.jobs.carry_out import carry_out
    from components.training.session import open_session
    from components.training.world import join_world

    _check_code(settings.code_fingerprint)
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
        outbox = Outbox(slot, assignment.id, speaks=world.is_main)
        carry_out(
            session,
            assignment.job,
            emit=outbox.send,
            wanted=outbox.wanted,
            code_version=settings.code_version,
            ranks=settings.cluster.num_workers,
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

    def wanted(self) -> "Wanted":
        import ray

        wanted: Wanted = ray.get(self.slot.wanted.remote(self.assignment_id))
        return wanted


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
