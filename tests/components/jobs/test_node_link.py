"""gloo is told the link that carries the node's address, and no other."""

import socket
from types import SimpleNamespace
from typing import Any

import psutil

from components.jobs.node_link import link_of


def address(family: int, value: str) -> Any:
    return SimpleNamespace(family=family, address=value)


LINKS = {
    "lo": [address(socket.AF_INET, "127.0.0.1")],
    "eth0": [address(psutil.AF_LINK, "02:fc:00:00:00:01"), address(socket.AF_INET, "10.0.0.1")],
    "ib0": [address(socket.AF_INET, "10.1.0.1"), address(socket.AF_INET6, "fe80::1%ib0")],
}


def test_a_node_s_link_is_the_one_with_its_address() -> None:
    assert link_of("10.1.0.1", LINKS) == "ib0"
    assert link_of("10.0.0.1", LINKS) == "eth0"
    assert link_of("fe80::1", LINKS) == "ib0"


def test_an_address_that_no_link_carries_has_none() -> None:
    assert link_of("192.0.2.1", LINKS) is None


def test_this_machine_s_own_links_are_read() -> None:
    loopback = link_of("127.0.0.1", psutil.net_if_addrs())
    assert loopback is not None and loopback.startswith("lo")
