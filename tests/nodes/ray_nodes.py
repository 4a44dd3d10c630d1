"""A Ray cluster of several machines (network.py): a head with its job server, MLflow on a machine
that is no node, and drivers on the head. They share one folder and nothing else.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.components.tuning.drive import Driver, start_driver
from tests.nodes.network import Machine, Network, network

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS, SEARCH_SECONDS = 600.0, 1200.0
MOST_STARTS = 4
BETWEEN_LOOKS_SECONDS = 1.0
OBJECT_STORE_BYTES = 128 * 1024**2
GCS_PORT, JOBS_PORT, MLFLOW_PORT = 6379, 8265, 5000
"""The programs' own: nothing else listens on these machines."""
ASK = """
import os, sys, urllib.request as u
asked = u.Request(sys.argv[1])
if token := os.environ.get("RAY_AUTH_TOKEN"):
    asked.add_header("Authorization", f"Bearer {token}")
print(u.urlopen(asked).read().decode())
"""
NO_TOKENS = {"RAY_AUTH_MODE": "disabled"}


@dataclass
class RayNode:
    machine: Machine
    process: "subprocess.Popen[bytes]"


@dataclass
class RayNodes:
    """A cluster that is up. `shared`: the folder that all machines see at the same place;
    `variables`: what its processes have in their environment; `nodes`: the head first.
    """

    network: Network
    folder: Path
    shared: Path
    variables: Mapping[str, str] = field(default_factory=lambda: NO_TOKENS)
    nodes: list[RayNode] = field(default_factory=list)
    tracking_uri: str = ""

    @property
    def head(self) -> Machine:
        return self.nodes[0].machine

    @property
    def address(self) -> str:
        return f"{self.head.address}:{GCS_PORT}"

    @property
    def jobs_address(self) -> str:
        return f"http://{self.head.address}:{JOBS_PORT}"

    def add(self, **options: object) -> Machine:
        """A further node on a further machine. `options`: of `ray start`."""
        for _ in range(MOST_STARTS):
            node = self._start(options)
            self.nodes.append(node)
            self.until(partial(self._is_settled, node), f"{node.machine.name} in the cluster")
            if node.process.poll() is None:
                return node.machine
            self.kill(node.machine)  # Ray's processes have fixed times to start in
        raise AssertionError((self.folder / f"{node.machine.name}.log").read_text()[-3000:])

    def _start(self, options: Mapping[str, object]) -> RayNode:
        machine = self.network.add()
        process = machine.start(
            self._ray_start(machine, options),
            log=self.folder / f"{machine.name}.log",
            environment=self.environment(machine),
            cwd=self.folder,
        )
        return RayNode(machine, process)

    def kill(self, machine: Machine) -> None:
        """End a node with its machine."""
        machine.kill()
        self.nodes = [node for node in self.nodes if node.machine is not machine]

    def environment(self, machine: Machine) -> dict[str, str]:
        """Of a process on a machine: nothing of this one's Ray or MLflow."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MLFLOW_"))
        }
        own = {
            "RAY_TMPDIR": str(self.folder / machine.name),
            "RAY_worker_niceness": "0",
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT),
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        }
        return kept | own | self.variables

    def drive(self, name: str, values: dict[str, Any] | None = None, **options: Any) -> Driver:
        """A search in a process on the head (tests/components/tuning/drive.py)."""
        return start_driver(
            self.shared,
            name,
            address=self.address,
            tracking_uri=self.tracking_uri,
            values=values,
            on=self.head.command,
            environment=self.environment(self.head),
            seconds=SEARCH_SECONDS,
            **options,
        )

    def ask(self, code: str) -> str:
        """What Python code prints in a driver on the head that has joined the cluster."""
        joined = (
            f"import ray\nray.init(address={self.address!r}, logging_level='ERROR', "
            f"log_to_driver=False)\n{code}"
        )
        command = self.head.command(sys.executable, "-c", joined, cwd=self.folder)
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment(self.head)
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def dashboard(self, path: str) -> str:
        """What the dashboard answers to whoever has the cluster's token. Raises CalledProcessError
        where nobody answers.
        """
        asked = self.head.command(sys.executable, "-S", "-c", ASK, f"{self.jobs_address}{path}")
        known = self.environment(self.head)
        return subprocess.run(asked, check=True, capture_output=True, text=True, env=known).stdout

    def _is_settled(self, node: RayNode) -> bool:
        """Whether the node is in the head's list, or has ended."""
        if node.process.poll() is not None:
            return True
        listed = json.loads(self.dashboard("/nodes?view=summary"))
        return any(
            # A node that has just come or gone is listed with nothing but its id.
            each.get("ip") == node.machine.address and each["raylet"].get("state") == "ALIVE"
            for each in listed["data"]["summary"]
        )

    def until(self, asked: Callable[[], bool], what: str) -> None:
        """Return when it is so; nobody may answer at first."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if asked():
                    return
            except subprocess.CalledProcessError:
                pass  # nobody answers yet
            logs = "\n".join(file.read_text()[-2000:] for file in sorted(self.folder.glob("*.log")))
            assert time.monotonic() < deadline, f"not within {START_SECONDS:g} s: {what}\n{logs}"
            time.sleep(BETWEEN_LOOKS_SECONDS)

    def _ray_start(self, machine: Machine, options: Mapping[str, object]) -> list[str]:
        head = not self.nodes
        given: dict[str, object] = {
            "node-ip-address": machine.address,
            "temp-dir": self.folder / machine.name,
            "num-cpus": 2,
            "object-store-memory": OBJECT_STORE_BYTES,
            **(
                {
                    "port": GCS_PORT,
                    "include-dashboard": "true",
                    "dashboard-host": machine.address,
                    "dashboard-port": JOBS_PORT,
                }
                if head
                else {"address": self.address}
            ),
        } | {name.replace("_", "-"): value for name, value in options.items()}
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        command += ["--head"] * head
        for name, value in given.items():
            command += [f"--{name}", str(value)]
        return [*command, "--disable-usage-stats", "--log-color", "false"]

    def start_mlflow(
        self, machine: Machine, options: Mapping[str, object], variables: Mapping[str, str]
    ) -> None:
        """MLflow on a machine that is no node. `options`: of `mlflow server`."""
        self.tracking_uri = f"http://{machine.address}:{MLFLOW_PORT}"
        given = {
            "host": machine.address,
            "port": MLFLOW_PORT,
            "workers": 1,
            "allowed-hosts": f"{machine.address}:{MLFLOW_PORT},{machine.address}",
        } | options
        command = [sys.executable, "-m", "mlflow", "server", "--serve-artifacts"]
        for name, value in given.items():
            command += [f"--{name}", str(value)]
        machine.start(
            command,
            log=self.folder / "mlflow.log",
            environment=self.environment(machine) | variables,
            cwd=self.folder,
        )
        query = f"import urllib.request as u; u.urlopen('{self.tracking_uri}/health')"
        self.until(lambda: self.head.run(sys.executable, "-c", query) == "", "MLflow")


@contextmanager
def ray_nodes(
    *options: Mapping[str, object],
    variables: Mapping[str, str] = NO_TOKENS,
) -> Iterator[RayNodes]:
    """A cluster of nodes of 2 CPUs, one for each of the `options` of `ray start`; no MLflow yet."""
    folder = Path(tempfile.mkdtemp(prefix="pp-", dir="/tmp"))  # Ray's sockets want a short path
    shared = folder / "shared"
    shared.mkdir()
    try:
        with network(0) as net:
            cluster = RayNodes(net, folder, shared, variables)
            for each in options:
                cluster.add(**each)
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_plain_mlflow(cluster: RayNodes) -> None:
    """MLflow with a database and artifacts in files."""
    stores = {
        "backend-store-uri": f"sqlite:///{cluster.folder}/mlflow.db",
        "artifacts-destination": cluster.folder / "artifacts",
    }
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    cluster.start_mlflow(cluster.network.add(), stores, quiet)
