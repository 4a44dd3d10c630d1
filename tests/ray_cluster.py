"""One Ray cluster for all commands that may share one: starting and ending a cluster for each takes
longer than what they do on it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from pipelines.local_cluster.lifecycle import free_port

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS, END_SECONDS = 120.0, 60.0
OBJECT_STORE_BYTES = 512 * 1024**2


@dataclass(frozen=True)
class RayCluster:
    """`address` is that of its control service, `jobs_address` that of its job server (http)."""

    address: str
    jobs_address: str


@pytest.fixture(scope="session")
def ray_address(ray_cluster: RayCluster) -> str:
    return ray_cluster.address


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster of 2 CPUs that ends with the session. Commands on it name files by absolute paths:
    its workers stand in another folder.
    """
    # A folder of its own: a job's driver joins the cluster that `ray start` noted in it.
    folder = tempfile.mkdtemp(prefix="pp-ray-", dir="/tmp")  # sockets want a short path
    port, dashboard_port = free_port(), free_port()
    environment = os.environ | {
        "RAY_AUTH_MODE": "disabled",
        "RAY_TMPDIR": folder,
        "RAY_worker_niceness": "0",
        "PYTHONPATH": str(ROOT),
        # a job's `python` is this one
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
    }
    with (Path(folder) / "head.log").open("wb") as log:
        process = subprocess.Popen(
            ray_start(port, dashboard_port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        jobs_address = f"http://127.0.0.1:{dashboard_port}"
        noted = Path(folder) / "ray" / "ray_current_cluster"
        wait_for_jobs(jobs_address, process, Path(folder) / "head.log", noted)
        yield RayCluster(noted.read_text().strip(), jobs_address)
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(END_SECONDS)
        _, alive = psutil.wait_procs(children, timeout=END_SECONDS)
        for each in alive:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def cluster_of_this_process() -> Iterator[None]:
    """Context in which this process has a cluster of its own, whose workers import this checkout,
    tests included.
    """
    from components.jobs.cluster import joined_cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ["PYTHONPATH"] = str(ROOT)
    with joined_cluster("local", code=[ROOT / "components", ROOT / "pipelines", ROOT / "tests"]):
        yield


def environment_on(address: str, folder: Path) -> dict[str, str]:
    """Of a command on the cluster whose MLflow is a database in `folder`: nothing of this machine's
    Ray or MLflow.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_"))
    }
    return kept | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "RAY_ADDRESS": address,
        "RAY_AUTH_MODE": "disabled",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }


def copy_project(folder: Path) -> None:
    """The code of this checkout in a folder, as a clone from which jobs are submitted."""
    for part in ("pipelines", "components"):
        ignored = shutil.ignore_patterns("__pycache__", "results", "*.png")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    shutil.copy(ROOT / ".rayignore", folder)


def ray_start(port: int, dashboard_port: int) -> list[str]:
    """The head of a cluster beside which another one may run: no port is Ray's default."""
    options: dict[str, object] = {
        "port": port,
        "num-cpus": 2,
        "include-dashboard": "true",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard_port,
        "dashboard-agent-listen-port": free_port(),
        "ray-client-server-port": free_port(),
        "min-worker-port": 0,
        "max-worker-port": 0,
        "object-store-memory": OBJECT_STORE_BYTES,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return [*command, "--disable-usage-stats", "--log-color", "false"]


def wait_for_jobs(
    jobs_address: str, process: "subprocess.Popen[bytes]", log: Path, noted: Path
) -> None:
    """Return when the job server answers and `ray start` has noted the cluster."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urlopen(f"{jobs_address}/api/jobs/", timeout=5):
                if noted.exists():
                    return
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)
