"""Ranks on several nodes meet over the network that Ray's nodes know each other by.

Symptom: a slot over two nodes never starts, "Gloo connectFullMesh failed ... remote=[127.0.0.1]".
gloo looks its own host's name up to learn where it can be reached; where that name is unknown or
stands for the loopback, as on a stock Debian, it tells the other ranks 127.0.0.1. Remove once Ray
Train tells gloo the node's address. NCCL picks its links itself.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

GLOO_LINK = "GLOO_SOCKET_IFNAME"


def link_of(address: str, links: Mapping[str, Sequence[Any]]) -> str | None:
    """The link that carries an IP address, of those that psutil.net_if_addrs lists; None where none
    does: the node is known by an address that another machine translates.
    """
    families = (socket.AF_INET, socket.AF_INET6)
    return next(
        (
            name
            for name, addresses in links.items()
            for each in addresses
            if each.family in families and each.address.partition("%")[0] == address
        ),
        None,
    )


def use_nodes_link() -> None:
    """Let gloo, in this process, take the link of the Ray node; one that was named stays."""
    import ray

    link = link_of(ray.util.get_node_ip_address(), psutil.net_if_addrs())
    if link is not None:
        os.environ.setdefault(GLOO_LINK, link)


class NodeLinkBackend(_TorchBackend):
    """Tells every worker its link before the ranks meet."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        worker_group.execute(use_nodes_link)
        super().on_start(worker_group, backend_config)


@dataclass
class NodeLinkConfig(TorchConfig):
    """See TorchConfig."""

    @property
    def backend_cls(self) -> type[NodeLinkBackend]:
        return NodeLinkBackend
