"""Slurm on this host alone: munge, its controller and one node as processes with a configuration of
their own, ended by their handles. Debian: slurm-wlm.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from pipelines.local_cluster.servers import free_port

START_SECONDS = 60.0
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """The variables by which sbatch and squeue find it; skips the test where there is no Slurm."""
    programs = {name: _program(name) for name in ("munged", "slurmctld", "slurmd", "sbatch")}
    folder = Path(tempfile.mkdtemp(prefix="pp-slurm-", dir="/tmp"))  # sockets want a short path
    try:
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        configuration = folder / "slurm.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname().partition(".")[0],
                user=pwd.getpwuid(os.geteuid()).pw_name,
                controller_port=free_port(),
                node_port=free_port(),
                cpus=psutil.cpu_count(logical=True),
            )
        )
        environment = os.environ | {"SLURM_CONF": str(configuration)}
        names = ("socket", "pid", "log", "seed")
        files = [f"--{name}-file={folder}/munge.{name}" for name in names[1:]]
        munge = [*files, f"--key-file={key}", f"--socket={folder}/munge.socket", "--force"]
        with ExitStack() as started:
            for command in (
                [programs["munged"], "--foreground", *munge],
                [programs["slurmctld"], "-D", "-f", str(configuration)],
                [programs["slurmd"], "-D", "-f", str(configuration)],
            ):
                started.enter_context(_running(command, folder, environment))
            _wait_until_idle(folder, environment)
            yield {"SLURM_CONF": str(configuration)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"no {name} here: apt-get install slurm-wlm")
    return found


@contextmanager
def _running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{Path(command[0]).name}.out").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _wait_until_idle(folder: Path, environment: dict[str, str]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        told = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if told.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(path.read_text()[-1500:] for path in sorted(folder.glob("*.out")))
    raise AssertionError(f"Slurm did not come up: {logs}")
