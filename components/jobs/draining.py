"""Nodes that are about to be taken away, as the cluster tells it beforehand: a spot instance that
was given notice, or `ray drain-node`.

Ray's public word for it, `ray.train.get_preemption_info`, is a barrier of all ranks through an
actor at every call. The slot asks instead what that asks too, once a second, and its workers hear
of it with the answer that they get after every step anyway.
"""

import ray
from ray.exceptions import RayError


def nodes_to_go() -> set[str]:
    """Ids of the nodes that are about to go; empty where the cluster's control service does not
    answer just now.
    """
    try:
        return set(ray._private.state.state.get_draining_nodes())
    except RayError:
        return set()


def drained(nodes: set[str]) -> str:
    """Which of these nodes (ids) are about to go, in words; empty where none is."""
    names = ", ".join(node[:8] for node in sorted(nodes & nodes_to_go()))
    return f"node {names} is about to be taken away" if names else ""
