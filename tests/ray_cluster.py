"""One Ray cluster for all commands that may share one: starting and ending a cluster for each takes
longer than what they do on it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import sys
import ray
from ray._private.utils import write_ray_address
context = ray.init(
    address="local",
    num_cpus=2,
    include_dashboard=True,
    dashboard_host="127.0.0.1",
    log_to_driver=False,
    logging_level="ERROR",
)
# As `ray start` does: a job's driver joins the cluster named there, or else any on this machine.
write_ray_address(context.address_info["gcs_address"])
print(context.address_info["gcs_address"], context.dashboard_url, flush=True)
sys.stdin.read()
"""


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
    folder = tempfile.mkdtemp(prefix="pp-ray-", dir="/tmp")  # sockets want a short path
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {
            "RAY_AUTH_MODE": "disabled",
            "RAY_worker_niceness": "0",
            "RAY_TMPDIR": folder,
            "PYTHONPATH": str(ROOT),
            # a job's `python` is this one
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        },
    )
    assert process.stdin is not None and process.stdout is not None
    addresses = process.stdout.readline().split()
    assert len(addresses) == 2, "the cluster did not start"
    try:
        yield RayCluster(addresses[0], f"http://{addresses[1]}")
    finally:
        process.stdin.close()
        process.wait(timeout=120)
        shutil.rmtree(folder, ignore_errors=True)
