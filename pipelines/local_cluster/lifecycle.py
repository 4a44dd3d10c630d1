"""A cluster on this machine: one Ray head and one MLflow server, started, looked at and stopped.

Both listen on 127.0.0.1 only, on free ports. Everything is kept in one state folder; `cluster.json`
in it says what runs. Never `ray stop`: that ends every Ray cluster on the machine.
"""

import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from components.atomic_file import atomic_file
from components.errors import ClusterError
from pipelines.local_cluster import marked_processes
from pipelines.local_cluster.addresses import STATE_FOLDER, cluster_nodes

HOME = "PREFIXPROP_HOME"
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


@dataclass(frozen=True)
class LocalCluster:
    """What runs, and where it listens."""

    ray_address: str
    jobs_address: str
    dashboard_url: str
    tracking_uri: str
    environment: dict[str, str]
    """What a program must have in its environment to connect to this Ray cluster."""
    home: str
    """Folder against which jobs read relative paths."""
    mark: str
    pids: dict[str, int]
    """Process ids of the Ray head and the MLflow server."""


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
    nothing.

    `environ`: environment of the servers, by default this process's. `say`: takes lines of
    progress. Raises ClusterError where a server ends or does not answer in time.
    """
    state_folder = state_folder.resolve()
    state_folder.mkdir(parents=True, exist_ok=True)
    with FileLock(state_folder / "cluster.lock"):
        cluster = _read(state_folder)
        if cluster is None or not _leaders_alive(cluster):
            if cluster is not None:
                say("The cluster is not running any more as a whole; starting it again")
                _stop(cluster)
            cluster = _start(state_folder, dict(os.environ if environ is None else environ), say)
        try:
            _wait(cluster, state_folder)
        except BaseException:
            _stop(cluster)
            (state_folder / "cluster.json").unlink(missing_ok=True)
            raise
        return cluster


def status(state_folder: Path = STATE_FOLDER) -> ClusterStatus:
    """Look at the cluster of a state folder without changing anything."""
    cluster = _read(state_folder)
    if cluster is None:
        return ClusterStatus(None)
    members = marked_processes.members(cluster.mark)
    alive = {process.pid for process in members}
    return ClusterStatus(
        cluster,
        ray=cluster.pids["ray"] in alive and _ray_answers(cluster),
        mlflow=cluster.pids["mlflow"] in alive and _mlflow_answers(cluster),
        processes=len(members),
        memory_bytes=marked_processes.memory_bytes(members),
    )


def down(state_folder: Path = STATE_FOLDER) -> int:
    """End every process of the cluster and return how many there were. Runs, models and logs stay
    in the state folder.
    """
    if not (state_folder / "cluster.json").is_file():
        return 0
    with FileLock(state_folder.resolve() / "cluster.lock"):
        cluster = _read(state_folder)
        ended = 0 if cluster is None else _stop(cluster)
        (state_folder / "cluster.json").unlink(missing_ok=True)
        return ended


def _start(state_folder: Path, environ: dict[str, str], say: Callable[[str], None]) -> LocalCluster:
    mark = secrets.token_hex(8)
    mlflow_port, ray_port, dashboard_port = _mlflow_port(state_folder), free_port(), free_port()
    jobs_address, tracking_uri = (
        f"http://127.0.0.1:{dashboard_port}",
        f"http://127.0.0.1:{mlflow_port}",
    )
    connect = {"RAY_AUTH_MODE": environ.get("RAY_AUTH_MODE", "disabled"), **LOOPBACK_ONLY}
    environ.pop("RAY_ADDRESS", None)
    environ |= connect | {
        marked_processes.MARK: mark,
        HOME: os.getcwd(),
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]
        ),
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": str(JOB_STOP_GRACE_SECONDS),
        "PYTHONUNBUFFERED": "1",
    }
    say(f"Starting the MLflow server on {tracking_uri} and the Ray head on 127.0.0.1:{ray_port}")
    pids = {
        "mlflow": marked_processes.spawn(
            _mlflow_command(state_folder, mlflow_port), environ, _log(state_folder, "mlflow")
        ),
        "ray": marked_processes.spawn(
            _ray_command(_ray_folder(state_folder), ray_port, dashboard_port),
            environ,
            _log(state_folder, "ray"),
        ),
    }
    cluster = LocalCluster(
        ray_address=f"127.0.0.1:{ray_port}",
        jobs_address=jobs_address,
        dashboard_url=jobs_address,
        tracking_uri=tracking_uri,
        environment=connect,
        home=os.getcwd(),
        mark=mark,
        pids=pids,
    )
    _write(state_folder, cluster)
    return cluster


def _mlflow_command(state_folder: Path, port: int) -> list[str]:
    folder = state_folder / "mlflow"
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
            f"sqlite:///{folder / 'mlflow.db'}",
            "--artifacts-destination",
            str(folder / "artifacts"),
            "--serve-artifacts",
        ),
    ]


def _mlflow_port(state_folder: Path) -> int:
    """The port of the time before where it is free, so that links to runs stay valid over `down`
    and `up`; else any free one.
    """
    (state_folder / "mlflow" / "artifacts").mkdir(parents=True, exist_ok=True)
    remembered = state_folder / "mlflow" / "port"
    if remembered.is_file() and _is_free(port := int(remembered.read_text(encoding="utf-8"))):
        return port
    port = free_port()
    remembered.write_text(str(port), encoding="utf-8")
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
            alive = _leaders_alive(cluster)
            if not alive or time.monotonic() > deadline:
                what = f"did not answer within {START_TIMEOUT_SECONDS:.0f} s" if alive else "ended"
                log = _log(state_folder, name)
                tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[
                    -1:
                ] or ["(empty)"]
                raise ClusterError(
                    f"The local cluster's {name} server {what}; its log {log} ends with: {tail[0]} "
                    "Try: prefixprop doctor"
                )
            time.sleep(0.2)


def _leaders_alive(cluster: LocalCluster) -> bool:
    return set(cluster.pids.values()) <= {
        process.pid for process in marked_processes.members(cluster.mark)
    }


def _stop(cluster: LocalCluster) -> int:
    return marked_processes.stop(cluster.mark, leaders=tuple(cluster.pids.values()))


def _ray_answers(cluster: LocalCluster) -> bool:
    """Whether the cluster has its node: the dashboard answers seconds before that, and what is
    submitted then sees no CPU.
    """
    return bool(cluster_nodes(cluster.jobs_address, os.environ | cluster.environment))


def _mlflow_answers(cluster: LocalCluster) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            f"{cluster.tracking_uri}/health", timeout=2.0
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _log(state_folder: Path, name: str) -> Path:
    return state_folder / "logs" / f"{name}.log"


def _read(state_folder: Path) -> LocalCluster | None:
    path = state_folder / "cluster.json"
    if not path.is_file():
        return None
    try:
        return LocalCluster(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ClusterError(
            f"{path} cannot be read ({error}). Remove it and run: prefixprop up"
        ) from error


def _write(state_folder: Path, cluster: LocalCluster) -> None:
    with atomic_file(state_folder / "cluster.json") as file:
        file.write_text(json.dumps(asdict(cluster), indent=2) + "\n", encoding="utf-8")


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
