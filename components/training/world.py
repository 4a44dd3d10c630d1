"""This process among the ranks that train one adapter together.

Works the same inside Ray Train, under torchrun and alone: whoever started the process has set RANK
and WORLD_SIZE, or nobody has and the world is one process.
"""

import os
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from components.training.devices import collective_backend, rank_device, rank_environment

COLLECTIVE_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class World:
    """Rank and size of the process group, and the device of this rank."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Element-wise sum over ranks, float64."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, values: list[float]) -> list[float]:
        """Element-wise maximum over ranks, float64."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks, on every rank."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        self.sum([0.0])

    def _reduce(self, values: list[float], operation: Any) -> list[float]:
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, op=operation)
        return [float(value) for value in tensor.tolist()]


def join_world(device: torch.device | None = None) -> World:
    """Join the process group that torchrun or Ray Train describes in the environment, or make one
    of size 1. Idempotent.

    GPUs are used where torch sees one (NCCL), else the CPU (gloo). One process alone needs no port:
    it meets itself through a file. `device`: this rank's device where the caller knows it.
    """
    if device is None:
        visible = [str(index) for index in range(torch.cuda.device_count())]
        rank_here = int(os.environ.get("LOCAL_RANK", "0"))
        device = torch.device(
            rank_device(gpus_per_worker=None, visible=visible, local_rank=rank_here)
        )
    os.environ |= rank_environment(str(device), os.environ)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        alone = size == 1 and "MASTER_ADDR" not in os.environ
        method = (
            f"file://{tempfile.mkdtemp(prefix='prefixprop-')}/rendezvous" if alone else "env://"
        )
        timeout = timedelta(seconds=COLLECTIVE_TIMEOUT_SECONDS)
        dist.init_process_group(
            collective_backend(device.type),
            init_method=method,
            rank=rank,
            world_size=size,
            timeout=timeout,
        )
    rank, size = dist.get_rank(), dist.get_world_size()
    for name, value in (("RANK", rank), ("WORLD_SIZE", size)):
        os.environ.setdefault(name, str(value))  # DeepSpeed reads them
    return World(rank=rank, size=size, device=device)
