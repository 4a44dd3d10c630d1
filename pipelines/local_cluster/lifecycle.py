"""A cluster on this machine: one Ray head and one MLflow server, started, looked at and stopped.

Both listen on 127.0.0.1 only, on free ports. Everything is kept in one state folder; `cluster.json`
in it says what runs. Never `ray stop`: that ends every Ray cluster on the machine. A server that
died is started again alone: the other one may have searches on it.
"""

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from components.errors import ClusterError
from components.loopback import direct_loopback, opener
from components.registry import check_sqlite
from components.settings import writable_folder
from pipelines.local_cluster import marked_processes
from pipelines.local_cluster.addresses import HOME, STATE_FOLDER, cluster_nodes
from pipelines.local_cluster.state_file import (
    SERVERS,
    LocalCluster,
    forget_cluster,
    read_cluster,
    read_port,
    write_cluster,
    write_port,
)

START_TIMEOUT_SECONDS = 120.0
JOB_STOP_GRACE_SECONDS = 30
"""A stopped job may take this long to end its runs; Ray's own 3 seconds are too few on a busy
machine.
"""
OBJECT_STORE_BYTES = 512 * 1024**2
# A Unix socket path holds 107 bytes; below its folder Ray makes
# /session_<date>_<time>_<pid>/sockets/<name>.
LONGEST_RAY_FOLDER_BYTES = 107 - len(
    "/session_2000-01-01_00-00-00_000000_1234567/sockets/dash_ReportHead"
)
# Ray binds to every interface unless told that this is no machine for clusters; then it keeps to
# 127.0.0.1. Whoever connects must be told the same.
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
NAMES = {"mlflow": "MLflow server", "ray": "Ray head"}


@dataclass(frozen=True)
class ClusterStatus:
    """Which of the two servers answer, and what the cluster's processes take."""

    cluster: LocalCluster | None
    ray: bool = False
    mlflow: bool = False
    processes: int = 0
    memory_bytes: int = 0

    @property
    def running(self) -> bool:
        return self.ray and self.mlflow


def up(
    state_folder: Path = STATE_FOLDER,
    *,
    environ: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> LocalCluster:
    """Start what does not run yet and wait until both servers answer; a second call changes
    nothing, and a server that died alone is started again beside the other.

    `environ`: environment of the servers, by default this process's. `say`: takes lines of
    progress. Raises ClusterError where a server ends or does not answer in time; what this call
    started is ended then, and nothing else.
    """
    state_folder = writable_folder(state_folder.resolve(), "--state")
    with FileLock(state_folder / "cluster.lock"):
        known = _known(state_folder, say)
        started = [name for name in SERVERS if known is None or not _alive(known, name)]
        given = dict(os.environ if environ is None else environ)
        cluster = known or _new(state_folder, given)
        try:
            for name in started:
                if known is not None:
                    say(f"The {NAMES[name]} is not running any more; starting it again")
                cluster = _start(name, cluster, state_folder, given, say)
            _wait(cluster, state_folder)
        except BaseException:
            for name in started:
                _stop(cluster, name)
            if set(started) == set(SERVERS):
                forget_cluster(state_folder)
            raise
        return cluster


def _known(state_folder: Path, say: Callable[[str], None]) -> LocalCluster | None:
    """The cluster of the state folder, as far as any of it lives. Processes of which the file does
    not tell (it is damaged or gone) are ended: nobody could reach them.
    """
    try:
        cluster = read_cluster(state_folder)
    except ClusterError as error:
        say(f"Starting anew: {error}")
        cluster = None
    if cluster is not None and any(_alive(cluster, name) for name in SERVERS):
        return cluster
    if cluster is not None:
        say("The cluster is not running any more; starting it again")
        _stop(cluster)
    marked_processes.stop(marked_processes.folder_mark(state_folder))
    return None


def status(state_folder: Path = STATE_FOLDER) -> ClusterStatus:
    """Look at the cluster of a state folder without changing anything."""
    cluster = read_cluster(state_folder)
    if cluster is None:
        return ClusterStatus(None)
    members = marked_processes.members(cluster.mark, leaders=tuple(cluster.pids.values()))
    return ClusterStatus(
        cluster,
        ray=_alive(cluster, "ray") and _ray_answers(cluster),
        mlflow=_alive(cluster, "mlflow") and _mlflow_answers(cluster),
        processes=len(members),
        memory_bytes=marked_processes.memory_bytes(members),
    )


def down(state_folder: Path = STATE_FOLDER) -> int:
    """End every process of the cluster and return how many there were, whatever the state folder
    still tells of them. Runs, models and logs stay in it.
    """
    if not state_folder.is_dir():
        return 0
    with FileLock(state_folder.resolve() / "cluster.lock"):
        try:
            cluster = read_cluster(state_folder)
        except ClusterError:
            cluster = None
        ended = 0 if cluster is None else _stop(cluster)
        ended += marked_processes.stop(marked_processes.folder_mark(state_folder))
        forget_cluster(state_folder)
        return ended


def _new(state_folder: Path, environ: Mapping[str, str]) -> LocalCluster:
    """Where a cluster will listen; nothing of it runs yet."""
    jobs_address = f"http://127.0.0.1:{free_port()}"
    return LocalCluster(
        ray_address=f"127.0.0.1:{free_port()}",
        jobs_address=jobs_address,
        dashboard_url=jobs_address,
        tracking_uri=f"http://127.0.0.1:{_mlflow_port(state_folder)}",
        environment={"RAY_AUTH_MODE": environ.get("RAY_AUTH_MODE", "disabled"), **LOOPBACK_ONLY},
        home=os.getcwd(),
        mark=marked_processes.new_mark(state_folder),
        pids={},
    )


def _start(
    name: str,
    cluster: LocalCluster,
    state_folder: Path,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> LocalCluster:
    """Start one server where it listened before, after what is left of it has ended."""
    _stop(cluster, name)
    address = cluster.tracking_uri if name == "mlflow" else cluster.ray_address
    if not _is_free(port := int(address.rpartition(":")[2])):
        raise ClusterError(
            f"Another program listens on port {port}, which was the {NAMES[name]}'s, and jobs that "
            "run look for it there. End that program, or start all of it on other ports: "
            "prefixprop down, then prefixprop up"
        )
    command = (
        _mlflow_command(state_folder, port)
        if name == "mlflow"
        else _ray_command(_ray_folder(state_folder), port, int(cluster.jobs_address.split(":")[2]))
    )
    say(f"Starting the {NAMES[name]} on {address}")
    pid = marked_processes.spawn(
        command, _environment(name, cluster, environ), _log(state_folder, name)
    )
    started = replace(cluster, pids=cluster.pids | {name: pid})
    if set(started.pids) == set(SERVERS):
        write_cluster(state_folder, started)
    return started


def _environment(name: str, cluster: LocalCluster, environ: Mapping[str, str]) -> dict[str, str]:
    """What a server and everything that it starts finds in its environment, jobs among them."""
    path = [str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]
    return (
        {variable: value for variable, value in environ.items() if variable != "RAY_ADDRESS"}
        | direct_loopback(environ)
        | cluster.environment
        | {
            marked_processes.MARK: cluster.mark,
            marked_processes.SERVER: name,
            HOME: cluster.home,
            "PATH": os.pathsep.join(path),
            "MLFLOW_TRACKING_URI": cluster.tracking_uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_JOB_STOP_WAIT_TIME_S": str(JOB_STOP_GRACE_SECONDS),
            "PYTHONUNBUFFERED": "1",
        }
    )


def _mlflow_command(state_folder: Path, port: int) -> list[str]:
    folder = state_folder / "mlflow"
    writable_folder(folder / "artifacts", "--state")
    check_sqlite(folder / "mlflow.db")
    return [
        *(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--workers",
            "1",
        ),
        *(
            "--backend-store-uri",
            _database(state_folder),
            "--artifacts-destination",
            str(folder / "artifacts"),
            "--serve-artifacts",
        ),
    ]


def _database(state_folder: Path) -> str:
    return f"sqlite:///{state_folder / 'mlflow' / 'mlflow.db'}"


def _mlflow_port(state_folder: Path) -> int:
    """The port of the time before where it is free, so that links to runs stay valid over `down`
    and `up`; else any free one.
    """
    remembered = state_folder / "mlflow" / "port"
    port = read_port(remembered)
    if port is None or not _is_free(port):
        port = free_port()
        write_port(remembered, port)
    return port


def _ray_command(folder: Path, port: int, dashboard_port: int) -> list[str]:
    return [
        *(
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--head",
            "--block",
            "--node-ip-address",
            "127.0.0.1",
            "--port",
            str(port),
        ),
        *(
            "--include-dashboard",
            "true",
            "--dashboard-host",
            "127.0.0.1",
            "--dashboard-port",
            str(dashboard_port),
        ),
        *(
            "--dashboard-agent-listen-port",
            str(free_port()),
            "--ray-client-server-port",
            str(free_port()),
        ),
        *(
            "--min-worker-port",
            "0",
            "--max-worker-port",
            "0",
            "--object-store-memory",
            str(OBJECT_STORE_BYTES),
        ),
        *("--temp-dir", str(folder), "--disable-usage-stats", "--log-color", "false"),
    ]


def _ray_folder(state_folder: Path) -> Path:
    """Ray's session folder, emptied: inside the state folder where socket paths stay short enough,
    else beside other temporary files.
    """
    folder = state_folder / "ray"
    if len(os.fsencode(folder)) > LONGEST_RAY_FOLDER_BYTES:
        folder = (
            Path(tempfile.gettempdir())
            / f"prefixprop-{os.getuid()}-{sha256(os.fsencode(state_folder)).hexdigest()[:8]}"
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder


def _wait(cluster: LocalCluster, state_folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    for name, answers in (("ray", _ray_answers), ("mlflow", _mlflow_answers)):
        while not answers(cluster):
            dead = [each for each in SERVERS if not _alive(cluster, each)]
            if dead:
                raise _failed(state_folder, dead[0], "ended")
            if time.monotonic() > deadline:
                what = f"did not answer within {START_TIMEOUT_SECONDS:.0f} s"
                raise _failed(state_folder, name, what)
            time.sleep(0.2)


def _failed(state_folder: Path, name: str, what: str) -> ClusterError:
    log = _log(state_folder, name)
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    last = (lines[-1] if lines else "(empty)").replace("<database_uri>", _database(state_folder))
    return ClusterError(
        f"The local cluster's {name} server {what}; its log {log} ends with: {last} "
        "Try: prefixprop doctor"
    )


def _alive(cluster: LocalCluster, name: str) -> bool:
    """Whether a server lives. Where its first process alone was killed, the others may answer
    still.
    """
    if marked_processes.carries(cluster.pids.get(name), cluster.mark):
        return True
    answers = _ray_answers if name == "ray" else _mlflow_answers
    return bool(marked_processes.members(cluster.mark, name)) and answers(cluster)


def _stop(cluster: LocalCluster, name: str | None = None) -> int:
    """End one server, or all of the cluster."""
    leaders = [pid for server, pid in cluster.pids.items() if name in (None, server)]
    return marked_processes.stop(cluster.mark, leaders=leaders, server=name)


def _ray_answers(cluster: LocalCluster) -> bool:
    """Whether the cluster has its node: the dashboard answers seconds before that, and what is
    submitted then sees no CPU.
    """
    return bool(cluster_nodes(cluster.jobs_address, os.environ | cluster.environment))


def _mlflow_answers(cluster: LocalCluster) -> bool:
    url = f"{cluster.tracking_uri}/health"
    try:
        with opener(url).open(url, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _log(state_folder: Path, name: str) -> Path:
    return state_folder / "logs" / f"{name}.log"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
