"""Whether slots find a place on the nodes that there are: not every division of enough cores and
GPUs over nodes has room for a worker, or for all workers of a slot on one node.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.config.cluster import ClusterConfig
from components.errors import ConfigError

ACCELERATOR = "accelerator_type:"
"""What Ray's resource of a kind of accelerator starts with."""
ROUNDING = 1e-9
SHOWN = 8


@dataclass(frozen=True)
class Node:
    """What a node of the cluster has in all, whatever runs there."""

    address: str
    cpus: float = 0.0
    gpus: float = 0.0
    accelerators: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


def node_of(address: str, resources: Mapping[str, Any], labels: Mapping[str, str]) -> Node:
    """A node as Ray tells it: its total resources and its labels."""
    kinds = (name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR))
    return Node(
        address,
        float(resources.get("CPU", 0.0)),
        float(resources.get("GPU", 0.0)),
        tuple(sorted(kinds)),
        dict(labels),
    )


def check_placement(cluster: ClusterConfig, *, slots: int, nodes: Sequence[Node]) -> None:
    """Raise ConfigError where these nodes, with nothing else on them, have no place for the
    slots.
    """
    kind, labels = cluster.accelerator_type, cluster.node_labels
    of_kind = [node for node in nodes if kind is None or kind in node.accelerators]
    if not of_kind:
        have = sorted({each for node in nodes for each in node.accelerators})
        raise ConfigError(
            f"cluster.accelerator_type: no node of the cluster has '{kind}'; it has "
            f"{', '.join(have) or 'no accelerator'}. Take one of these, or leave the setting out."
        )
    fitting = [node for node in of_kind if labels.items() <= node.labels.items()]
    if not fitting:
        raise ConfigError(
            f"cluster.node_labels: no node{f' with {kind}' if kind else ''} has "
            f"{_shown(labels)}; there are {_listed([_shown(node.labels) for node in of_kind])}. "
            "Start nodes with these (ray start --labels), or lower what is asked."
        )
    room = [_workers_on(node, cluster) for node in fitting]
    whole = cluster.placement == "one_node"
    places = sum(each // cluster.num_workers for each in room) if whole else sum(room)
    wanted = slots if whole else slots * cluster.num_workers
    if places < wanted:
        raise ConfigError(_no_place(cluster, slots, fitting, room))


def _workers_on(node: Node, cluster: ClusterConfig) -> int:
    """Workers that the node holds; one that takes a part of a GPU takes it of one GPU."""
    by_cpus = math.floor(node.cpus / cluster.cpus_per_worker + ROUNDING)
    part = cluster.gpus_per_worker
    if not part:
        return by_cpus
    return min(by_cpus, math.floor(node.gpus + ROUNDING) * math.floor(1 / part + ROUNDING))


def _no_place(
    cluster: ClusterConfig, slots: int, nodes: Sequence[Node], room: Sequence[int]
) -> str:
    found = [f"{node.address} {each}" for node, each in zip(nodes, room, strict=True)]
    gpu = f" and {cluster.gpus_per_worker:g} GPU" if cluster.gpus_per_worker else ""
    held = f"workers of {cluster.cpus_per_worker:g} CPU{gpu} that a node holds: {_listed(found)}"
    if cluster.placement == "one_node":
        return (
            f"cluster.placement one_node: {slots} slot(s) of {cluster.num_workers} worker(s), each "
            f"slot on one node, but {held}. Lower cluster.num_workers or search.concurrent_slots, "
            "or set cluster.placement to pack."
        )
    return (
        f"cluster.num_workers: {slots} slot(s) x {cluster.num_workers} worker(s), but {held}. "
        "Lower cluster.num_workers, cluster.cpus_per_worker or search.concurrent_slots."
    )


def _shown(labels: Mapping[str, str]) -> str:
    """Labels without those that Ray gives to every node."""
    own = {name: value for name, value in labels.items() if not name.startswith("ray.io/node")}
    return ",".join(f"{name}={value}" for name, value in sorted(own.items())) or "no labels"


def _listed(words: Sequence[str]) -> str:
    more = len(words) - SHOWN
    return "; ".join(words[:SHOWN]) + (f"; {more} more" if more > 0 else "")
