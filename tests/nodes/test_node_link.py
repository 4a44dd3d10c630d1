"""Ranks meet over the links that carry their nodes' addresses, though no host's name stands for
one.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.nodes.network import network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MEET = """
import datetime, os, sys
import psutil, torch
import torch.distributed as dist
rank, folder, address = int(sys.argv[1]), sys.argv[2], sys.argv[3]
from components.jobs.node_link import GLOO_LINK, link_of
os.environ[GLOO_LINK] = link_of(address, psutil.net_if_addrs())
dist.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2,
    timeout=datetime.timedelta(seconds=60),
)
total = torch.tensor([rank + 1.0])
dist.all_reduce(total)
assert total.item() == 3.0
"""


def test_ranks_on_two_machines_meet_over_their_nodes_links(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name != "GLOO_SOCKET_IFNAME"
    } | {"PYTHONPATH": str(ROOT)}
    log = tmp_path / "log"
    with network(2) as net:
        ranks = [
            machine.start(
                [sys.executable, "-c", MEET, str(rank), str(tmp_path), machine.address],
                log=log,
                environment=environment,
                cwd=tmp_path,
            )
            for rank, machine in enumerate(net.machines)
        ]
        assert [rank.wait(300) for rank in ranks] == [0, 0], log.read_text()[-2000:]
