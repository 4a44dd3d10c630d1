"""Ending workers that hang: first where they are, for whoever wants to know why, then the end."""

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from components.jobs.watchdog import WORD_SECONDS, Watchdog, seen_from_outside

if TYPE_CHECKING:
    from components.jobs.slot import Slot


def end_hanging(slot: "Slot", watched: Watchdog, why: str) -> Path:
    """Keep the stacks of all ranks, of those that cannot answer what their system says, and end
    their processes. Returns the file.
    """
    told, slot.asks_for_stacks = slot.flight.stacks, True
    time.sleep(2.5 * WORD_SECONDS)
    slot.asks_for_stacks = False
    parts = [why]
    for rank, state in sorted(watched.ranks.items()):
        seen = ended_process(state.pid, state.node_id)
        where = told.setdefault(rank, seen)
        parts.append(f"rank {rank}, process {state.pid}, node {state.node_id}\n{where}")
    file = slot.settings.storage_path / "slots" / f"stacks-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return file


def ended_process(pid: int, node_id: str) -> str:
    """Kill a worker's process on its node; what the system said of it before."""
    if node_id == ray.get_runtime_context().get_node_id():
        return _ended_here(pid)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    ending = ray.remote(num_cpus=0)(_ended_here).options(scheduling_strategy=there)
    try:
        seen: str = ray.get(ending.remote(pid), timeout=30.0)
    except Exception as error:  # noqa: BLE001 - the node itself may be what hangs
        return f"its node does not answer: {type(error).__name__}"
    return seen


def _ended_here(pid: int) -> str:
    seen = seen_from_outside(pid)
    try:
        name = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        if "RayTrainWorker" in name:  # not another one that got its number since
            os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
    return seen
