"""A cluster on this machine: one Ray head and one MLflow server, started, looked at and stopped.

Both listen on 127.0.0.1 only, on free ports. Everything is kept in one state folder; `cluster.json`
in it says what runs. Never `ray stop`: that ends every Ray cluster on the machine. A server that
died is started again alone: the other one may have searches on it.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from components.errors import ClusterError
from components.loopback import opener
from components.settings import writable_folder
from pipelines.local_cluster import marked_processes
from pipelines.local_cluster.access import (
    Access,
    access_to,
    private_folder,
    ray_environment,
    write_environment,
)
from pipelines.local_cluster.addresses import STATE_FOLDER, cluster_nodes
from pipelines.local_cluster.servers import (
    LOOPBACK_ONLY,
    NAMES,
    database,
    free_port,
    mlflow_port,
    ray_path,
    server_command,
    server_environment,
)
from pipelines.local_cluster.state_file import (
    SERVERS,
    LocalCluster,
    forget_cluster,
    read_cluster,
    write_cluster,
)

START_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class ClusterStatus:
    """Which of the two servers answer, and what the cluster's processes take."""

    cluster: LocalCluster | None
    ray: bool = False
    mlflow: bool = False
    processes: int = 0
    memory_bytes: int = 0
    access: Access | None = None
    """None where neither answers."""

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
    state_folder = private_folder(writable_folder(state_folder.resolve(), "--state"), "--state")
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
            try:
                _wait(cluster, state_folder)
            except ClusterError:
                # Ray's raylet gives up where its agents, which import for half a minute on a busy
                # machine, do not tell their ports within 15 s (2.60); there is no setting for it.
                if "ray" not in started or _alive(cluster, "ray"):
                    raise
                say(f"The {NAMES['ray']} ended while it started; starting it once more")
                cluster = _start("ray", cluster, state_folder, given, say)
                _wait(cluster, state_folder)
            write_environment(cluster, state_folder)
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
    _stop_whatever_is_left(state_folder)
    return None


def status(state_folder: Path = STATE_FOLDER) -> ClusterStatus:
    """Look at the cluster of a state folder without changing anything."""
    cluster = read_cluster(state_folder)
    if cluster is None:
        return ClusterStatus(None)
    members = marked_processes.members(cluster.mark, leaders=tuple(cluster.pids.values()))
    ray = _alive(cluster, "ray") and _ray_answers(cluster)
    mlflow = _alive(cluster, "mlflow") and _mlflow_answers(cluster)
    return ClusterStatus(
        cluster,
        ray=ray,
        mlflow=mlflow,
        processes=len(members),
        memory_bytes=marked_processes.memory_bytes(members),
        access=access_to(cluster, state_folder) if ray or mlflow else None,
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
        ended += _stop_whatever_is_left(state_folder)
        forget_cluster(state_folder)
        return ended


def _new(state_folder: Path, environ: Mapping[str, str]) -> LocalCluster:
    """Where a cluster will listen; nothing of it runs yet."""
    jobs_address = f"http://127.0.0.1:{free_port()}"
    return LocalCluster(
        ray_address=f"127.0.0.1:{free_port()}",
        jobs_address=jobs_address,
        dashboard_url=jobs_address,
        tracking_uri=f"http://127.0.0.1:{mlflow_port(state_folder)}",
        environment=ray_environment(state_folder, environ) | LOOPBACK_ONLY,
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
    command = server_command(name, cluster, state_folder)
    environment = server_environment(name, cluster, state_folder, environ)
    address = cluster.tracking_uri if name == "mlflow" else cluster.ray_address
    say(f"Starting the {NAMES[name]} on {address}")
    pid = marked_processes.spawn(command, environment, _log(state_folder, name))
    started = replace(cluster, pids=cluster.pids | {name: pid})
    if set(started.pids) == set(SERVERS):
        write_cluster(state_folder, started)
    return started


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
    last = (lines[-1] if lines else "(empty)").replace("<database_uri>", database(state_folder))
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


def _stop_whatever_is_left(state_folder: Path) -> int:
    """End what no file tells of any more."""
    mark = marked_processes.folder_mark(state_folder)
    return marked_processes.stop(mark, writing_in=ray_path(state_folder.resolve()))


def _ray_answers(cluster: LocalCluster) -> bool:
    """Whether the cluster has its node: the dashboard answers seconds before that, and what is
    submitted then sees no CPU.
    """
    environ = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    return bool(cluster_nodes(cluster.jobs_address, environ | cluster.environment))


def _mlflow_answers(cluster: LocalCluster) -> bool:
    url = f"{cluster.tracking_uri}/health"
    try:
        with opener(url).open(url, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _log(state_folder: Path, name: str) -> Path:
    return state_folder / "logs" / f"{name}.log"
