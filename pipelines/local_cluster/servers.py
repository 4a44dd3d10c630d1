"""How each of the two servers is started: its command line, its environment, its folders and ports.

The fact a newcomer gets wrong: what a server has in its environment, every job has too, so what is
set in the shell of `prefixprop up` reaches jobs; the MLflow server itself gets none of the MLflow
settings there, which may be another server's.
"""

import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path

from components.errors import ClusterError
from components.loopback import direct_loopback
from components.registry import check_sqlite
from components.settings import writable_folder
from pipelines.local_cluster import marked_processes
from pipelines.local_cluster.access import (
    MLFLOW_TOKEN,
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    kept_token,
    tracking_environment,
)
from pipelines.local_cluster.addresses import HOME
from pipelines.local_cluster.mlflow_app import APP, TOKEN_FILE
from pipelines.local_cluster.state_file import LocalCluster, read_port, write_port

JOB_STOP_GRACE_SECONDS = 30
"""A stopped job may take this long to end its runs; Ray's own 3 seconds are too few on a busy
machine.
"""
LOWEST_PORT, USUAL_FIRST_GIVEN, TRIES = 20_000, 32_768, 100
PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
OBJECT_STORE_BYTES = 512 * 1024**2
# A Unix socket path holds 107 bytes; below its folder Ray makes
# /session_<date>_<time>_<pid>/sockets/<name>.
LONGEST_RAY_FOLDER_BYTES = 107 - len(
    "/session_2000-01-01_00-00-00_000000_1234567/sockets/dash_ReportHead"
)
# Ray binds to every interface unless told that this is no machine for clusters; then it keeps to
# 127.0.0.1. Whoever connects must be told the same.
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# Ray serves its counters to everybody who asks, and some are named after jobs. Its two fixed ports
# cannot be switched off: at a port that there is not, Ray says so in a log and goes on.
NO_COUNTERS = {
    "RAY_enable_metrics_collection": "0",
    "DASHBOARD_METRIC_PORT": "-1",
    "AUTOSCALER_METRIC_PORT": "-1",
}
NAMES = {"mlflow": "MLflow server", "ray": "Ray head"}
NO_TELEMETRY = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def server_command(name: str, cluster: LocalCluster, state_folder: Path) -> list[str]:
    """The command line of a server, whose folders are made ready. Raises ClusterError where the
    port is taken or what is in a folder cannot be used.
    """
    address = cluster.tracking_uri if name == "mlflow" else cluster.ray_address
    if not is_free(port := _port(address)):
        raise ClusterError(
            f"Another program listens on port {port}, which was the {NAMES[name]}'s, and jobs that "
            "run look for it there. End that program, or start all of it on other ports: "
            "prefixprop down, then prefixprop up"
        )
    if name == "mlflow":
        return _mlflow_command(state_folder, port)
    return _ray_command(ray_folder(state_folder), port, _port(cluster.jobs_address))


def server_environment(
    name: str, cluster: LocalCluster, state_folder: Path, environ: Mapping[str, str]
) -> dict[str, str]:
    """What a server and everything that it starts finds in its environment, jobs among them."""
    path = [str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]
    kept = {key: value for key, value in environ.items() if key != "RAY_ADDRESS"}
    if "RAY_AUTH_TOKEN_PATH" in cluster.environment:
        kept.pop("RAY_AUTH_TOKEN", None)  # would come first
    if name == "mlflow":
        kept = {key: value for key, value in kept.items() if "MLFLOW_" not in key} | NO_TELEMETRY
        kept |= {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            TOKEN_FILE: str(state_folder / MLFLOW_TOKEN),
        }
    else:
        kept = NO_COUNTERS | kept
        kept |= tracking_environment(cluster.tracking_uri, state_folder, environ)
    return (
        kept
        | direct_loopback(environ)
        | cluster.environment
        | {
            marked_processes.MARK: cluster.mark,
            marked_processes.SERVER: name,
            HOME: cluster.home,
            "PATH": os.pathsep.join(path),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_JOB_STOP_WAIT_TIME_S": str(JOB_STOP_GRACE_SECONDS),
            "PYTHONUNBUFFERED": "1",
        }
    )


def _mlflow_command(state_folder: Path, port: int) -> list[str]:
    folder = state_folder / "mlflow"
    writable_folder(folder / "artifacts", "--state")
    check_sqlite(folder / "mlflow.db")
    if (folder / "mlflow.db").exists():
        (folder / "mlflow.db").chmod(PRIVATE_FILE)
    kept_token(state_folder / MLFLOW_TOKEN)
    if not entry_points(group="mlflow.app", name=APP):
        raise ClusterError(
            "The MLflow server cannot be started: the installed prefixprop is older than this "
            "code. Run: make install"
        )
    options = {
        "host": "127.0.0.1",
        "port": str(port),
        "workers": "1",
        "app-name": APP,
        # Any port: a tunnel may end at another one.
        "allowed-hosts": "127.0.0.1,127.0.0.1:*,localhost,localhost:*",
        "backend-store-uri": database(state_folder),
        "artifacts-destination": str(folder / "artifacts"),
    }
    return [*_command("mlflow", "server", options=options), "--serve-artifacts"]


def database(state_folder: Path) -> str:
    """The address of the database below the MLflow server."""
    return f"sqlite:///{state_folder / 'mlflow' / 'mlflow.db'}"


def mlflow_port(state_folder: Path) -> int:
    """The port of the time before where it is free, so that links to runs stay valid over `down`
    and `up`; else any free one.
    """
    remembered = state_folder / "mlflow" / "port"
    port = read_port(remembered)
    if port is None or not is_free(port):
        port = free_port()
        write_port(remembered, port)
    return port


def _ray_command(folder: Path, port: int, dashboard_port: int) -> list[str]:
    options = {
        "node-ip-address": "127.0.0.1",
        "port": str(port),
        "include-dashboard": "true",
        "dashboard-host": "127.0.0.1",
        "dashboard-port": str(dashboard_port),
        "dashboard-agent-listen-port": str(free_port()),
        "ray-client-server-port": str(free_port()),
        "min-worker-port": "0",
        "max-worker-port": "0",
        "object-store-memory": str(OBJECT_STORE_BYTES),
        "temp-dir": str(folder),
        "log-color": "false",
    }
    start = _command("ray.scripts.scripts", "start", options=options)
    return [*start, "--head", "--block", "--disable-usage-stats"]


def _command(module: str, verb: str, *, options: Mapping[str, str]) -> list[str]:
    pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", module, verb, *pairs]


def ray_path(state_folder: Path) -> Path:
    """Ray's folder: inside the state folder where socket paths stay short enough, else beside other
    temporary files. Ray opens it to everybody; the folder around it is its owner's.
    """
    folder = state_folder / "ray"
    if len(os.fsencode(folder)) <= LONGEST_RAY_FOLDER_BYTES:
        return folder
    name = f"prefixprop-{os.getuid()}-{sha256(os.fsencode(state_folder)).hexdigest()[:8]}"
    return Path(tempfile.gettempdir()) / name / "ray"


def ray_folder(state_folder: Path) -> Path:
    """`ray_path`, emptied. Raises ClusterError where the folder around it is someone else's."""
    folder = ray_path(state_folder)
    own = folder if folder.parent == state_folder else folder.parent
    shutil.rmtree(own, ignore_errors=True)
    try:
        own.mkdir(mode=PRIVATE_FOLDER)
    except OSError as error:
        raise ClusterError(
            f"Ray's folder '{own}' cannot be made ({error.strerror}). Remove it, set TMPDIR to "
            "another folder, or give a shorter --state."
        ) from error
    folder.mkdir(exist_ok=True, mode=PRIVATE_FOLDER)
    return folder


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def is_free(port: int) -> bool:
    """Whether a port of 127.0.0.1 can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago, and that the system gives to no connection
    by itself: a server that died finds it free again.
    """
    draw = random.SystemRandom()
    for _ in range(TRIES):
        port = draw.randrange(LOWEST_PORT, _first_given_port())
        if is_free(port):
            return port
    raise ClusterError(
        f"Of {TRIES} ports from {LOWEST_PORT} on none is free on 127.0.0.1. End programs that "
        "listen there."
    )


def _first_given_port() -> int:
    """From here on the system takes ports for connections as it likes."""
    try:
        first = int(PORT_RANGE.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        first = 0
    return first if first > LOWEST_PORT else USUAL_FIRST_GIVEN
