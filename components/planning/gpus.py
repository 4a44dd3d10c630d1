"""Kinds of GPUs and their memory, for clusters whose nodes tell the kind alone.

The fact a newcomer gets wrong: a kind is a name in Ray (`accelerator_type:A100`), not a size: some
were sold with two. Such a kind counts with the smaller one, and an unknown one is unknown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GIB = 1024**3
KIND_RESOURCE, KIND_LABEL = "accelerator_type:", "ray.io/accelerator-type"
MEMORY_GIB: Mapping[str, int] = {
    "P4": 8,
    "P100": 16,
    "V100": 16,  # or 32
    "T4": 16,
    "A10G": 24,
    "L4": 24,
    "L40S": 48,
    "A100": 40,  # or 80
    "A100-40G": 40,
    "A100-80G": 80,
    "H100": 80,
    "H20": 96,
    "H200": 141,
    "B200": 180,
}
"""As their makers name it, by Ray's name of the kind (ray.util.accelerators)."""


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a cluster. `memory_bytes`: of the smallest, None where it is not known; `source`:
    who says so, or why nobody does.
    """

    kinds: tuple[str, ...] = ()
    memory_bytes: int | None = None
    source: str = "no GPU"


def cluster_gpus(
    nodes: Iterable[Mapping[str, Any]], summaries: Iterable[Mapping[str, Any]]
) -> Gpus:
    """From Ray's nodes (`resources_total`, `labels`) and what their agents report (`gpus` with
    `name` and `memoryTotal` in MiB, as nvidia-smi tells it).
    """
    with_gpu = [node for node in nodes if node.get("resources_total", {}).get("GPU", 0.0)]
    reported = [gpu for summary in summaries for gpu in summary.get("gpus") or ()]
    sizes = [int(gpu["memoryTotal"]) * 1024**2 for gpu in reported if gpu.get("memoryTotal")]
    kinds = tuple(sorted({kind for node in with_gpu for kind in _kinds(node)}))
    if sizes and len(sizes) >= sum(node["resources_total"]["GPU"] for node in with_gpu):
        names = tuple(sorted({str(gpu.get("name", "GPU")) for gpu in reported}))
        return Gpus(names, min(sizes), "reported by the nodes")
    if not with_gpu:
        return Gpus()
    if any(not _kinds(node) for node in with_gpu):
        return Gpus(kinds, None, "a node does not say which kind of GPU it has")
    unknown = [kind for kind in kinds if kind not in MEMORY_GIB]
    if unknown:
        return Gpus(kinds, None, f"the memory of kind {unknown[0]} is not known")
    return Gpus(kinds, min(MEMORY_GIB[kind] for kind in kinds) * GIB, "by the kind's name")


def _kinds(node: Mapping[str, Any]) -> list[str]:
    label = (node.get("labels") or {}).get(KIND_LABEL)
    named = [
        name.removeprefix(KIND_RESOURCE)
        for name in node.get("resources_total", {})
        if name.startswith(KIND_RESOURCE)
    ]
    return named or ([label] if label else [])
