"""Plan an experiment against what there is to run it on. Starts nothing, downloads no weights,
imports no torch.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from components.backbones import inspect_backbone
from components.config import ExperimentConfig
from components.planning import (
    Plan,
    Resources,
    cluster_gpus,
    make_plan,
    node_of,
    remembered,
    search_wanted,
)
from components.tuning.searchers import check_searcher
from pipelines.local_cluster.addresses import Addresses, cluster_nodes, node_summaries


def plan(config: ExperimentConfig, addresses: Addresses, environ: Mapping[str, str]) -> Plan:
    """The plan against the Ray cluster that is known, else against this machine. Raises UserError
    where the experiment cannot work.
    """
    check_searcher(config)
    resources = find_resources(addresses, environ)
    wanted = search_wanted(config)
    measured = remembered(
        wanted.settings[0], wanted.cluster, trials_per_slot=wanted.trials_per_slot
    )
    return make_plan(wanted, inspect_backbone(config.backbone), resources, measured)


def find_resources(addresses: Addresses, environ: Mapping[str, str]) -> Resources:
    """Ask the cluster's dashboard; where none answers, look at this machine."""
    nodes = cluster_nodes(addresses.jobs_address, environ) if addresses.jobs_address else ()
    if not nodes:
        return this_machine()  # a plan is also wanted where no cluster runs
    totals = [node.get("resources_total", {}) for node in nodes]
    assert addresses.jobs_address is not None
    gpus = sum(total.get("GPU", 0.0) for total in totals)
    summaries = node_summaries(addresses.jobs_address, environ) if gpus else ()
    told = cluster_gpus(nodes, summaries)
    return Resources(
        source=f"cluster at {addresses.jobs_address}",
        cpus=sum(total.get("CPU", 0.0) for total in totals),
        gpus=gpus,
        memory_bytes=int(sum(total.get("memory", 0.0) for total in totals)),
        gpu_memory_bytes=told.memory_bytes,
        gpu_kinds=told.kinds,
        gpu_source=told.source,
        nodes=tuple(
            node_of(node.get("node_ip", ""), total, node.get("labels") or {})
            for node, total in zip(nodes, totals, strict=True)
        ),
    )


def this_machine() -> Resources:
    """CPU cores that this process may use, available main memory, and GPUs as nvidia-smi tells
    them.
    """
    memory = gpu_memory()
    return Resources(
        source="this machine",
        cpus=float(
            len(psutil.Process().cpu_affinity())
            if hasattr(psutil.Process, "cpu_affinity")
            else psutil.cpu_count() or 1
        ),
        gpus=float(len(memory)),
        memory_bytes=available_memory(),
        gpu_memory_bytes=min(memory) if memory else None,
        gpu_source="nvidia-smi" if memory else "nvidia-smi tells of none",
    )


def available_memory() -> int:
    """Main memory in bytes that can still be taken, the control group's limit (a container's)
    included.
    """
    available = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        return min(available, int(limit.read_text()) - int(used.read_text()))
    except (OSError, ValueError):
        return available  # no control groups, or no limit ("max")


def gpu_memory() -> tuple[int, ...]:
    """Bytes of each NVIDIA GPU; empty where there is no driver."""
    try:
        answer = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return tuple(int(line) * 1024**2 for line in answer.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
