"""Nodes of one CPU each beside the head of a local cluster, on this machine: they come and go as a
test says, and are children of its process.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from tests.faults import harness

BUSY = 900.0
"""Seconds for what takes one minute on a machine of its own."""


class Nodes:
    """Of the cluster that this process has joined, at `address`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def add(self) -> str:
        """Start a node; its id once it is there."""
        before = self._alive()
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--address", self.address]
        command += ["--num-cpus", "1", "--object-store-memory", str(100 * 1024**2)]
        command += ["--block", "--disable-usage-stats"]
        environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, **quiet)
        harness.until(lambda: self._alive() - before, "the node did not come", seconds=BUSY)
        (node_id,) = self._alive() - before
        self._processes[node_id] = process
        return node_id

    def drain(self, node_id: str) -> None:
        """What a spot instance's notice comes to: the node goes in a minute."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node"]
        command += ["--address", self.address, "--node-id", node_id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "notice"]
        command += ["--deadline-remaining-seconds", "60"]
        subprocess.run(command, check=True, timeout=BUSY, stdout=subprocess.DEVNULL)

    def remove(self, node_id: str) -> None:
        """End the node's processes."""
        process = self._processes.pop(node_id)
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(60)
        for each in psutil.wait_procs(children, timeout=30)[1]:
            with suppress(psutil.NoSuchProcess):
                each.kill()

    def close(self) -> None:
        for node_id in tuple(self._processes):
            self.remove(node_id)

    def _alive(self) -> set[str]:
        import ray

        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


@contextmanager
def nodes_of_a_cluster() -> Iterator[Nodes]:
    """Of a cluster whose head has one CPU too; they end with it."""
    with harness.local_cluster(cpus=1) as address:
        found = Nodes(address)
        try:
            yield found
        finally:
            found.close()
