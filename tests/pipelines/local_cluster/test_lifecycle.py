"""The local cluster: up, status and down do what they say twice in a row, a submitted job runs the
uploaded code, and nobody else's processes are touched.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from components.errors import ClusterError
from pipelines.local_cluster import lifecycle, marked_processes, servers, state_file
from pipelines.local_cluster.access import mlflow_credentials


@pytest.mark.slow
def test_a_mark_finds_children_and_stop_ends_them_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; "
        "time.sleep(60)'], start_new_session=True); time.sleep(60)"
    )
    environ = os.environ | {marked_processes.MARK: f"test-{os.getpid()}"}
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env=os.environ | {marked_processes.MARK: "another"},
    )
    try:
        leader = marked_processes.spawn([sys.executable, "-c", program], environ, tmp_path / "log")
        psutil.wait_procs([], timeout=0)
        for _ in range(100):
            if len(marked_processes.members(f"test-{os.getpid()}")) == 2:
                break
            psutil.cpu_percent(interval=0.1)
        assert marked_processes.stop(f"test-{os.getpid()}", leaders=[leader]) == 2
        assert marked_processes.members(f"test-{os.getpid()}") == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_recorded_process_id_that_is_someone_elses_now_is_not_taken_for_the_cluster(
    tmp_path: Path,
) -> None:
    own = os.getpid()
    cluster = state_file.LocalCluster(
        "127.0.0.1:1",
        "http://127.0.0.1:1",
        "http://127.0.0.1:1",
        "http://127.0.0.1:1",
        {},
        str(tmp_path),
        "gone",
        {"ray": own, "mlflow": own},
    )
    state_file.write_cluster(tmp_path, cluster)
    assert lifecycle.status(tmp_path) == lifecycle.ClusterStatus(cluster)
    assert lifecycle.down(tmp_path) == 0
    assert lifecycle.status(tmp_path).cluster is None


def test_an_unreadable_state_file_is_told_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text("{")
    with pytest.raises(ClusterError, match=r"Remove it and run: prefixprop up"):
        lifecycle.status(tmp_path)


def test_the_folder_of_ray_is_short_enough_for_its_sockets_and_private(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    folder = servers.ray_folder(deep)
    assert len(os.fsencode(folder)) <= servers.LONGEST_RAY_FOLDER_BYTES
    assert servers.ray_folder(deep) == folder
    assert folder.parent.stat().st_mode & 0o077 == 0  # Ray opens its own to everybody
    folder.rmdir()
    folder.parent.rmdir()
    folder.parent.write_text("someone else's")
    with pytest.raises(ClusterError, match=r"cannot be made \(File exists\).*shorter --state"):
        servers.ray_folder(deep)
    folder.parent.unlink()


PROXIED = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "localhost"}
"""An office: nothing listens on port 9."""


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, state_file.LocalCluster]]:
    state = tmp_path_factory.mktemp("state")
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("home"))
    try:
        environ = {
            name: value
            for name, value in os.environ.items()
            if name not in {"RAY_ADDRESS", "RAY_AUTH_MODE", "MLFLOW_TRACKING_URI"}
        } | PROXIED
        yield state, lifecycle.up(state, environ=environ)
    finally:
        lifecycle.down(state)
        os.chdir(before)


@pytest.fixture
def connected(
    cluster: tuple[Path, state_file.LocalCluster], monkeypatch: pytest.MonkeyPatch
) -> Iterator[state_file.LocalCluster]:
    """The cluster, and this process as a command finds it, which imports ray after that."""
    from ray._raylet import AuthenticationTokenLoader, Config

    def read_anew() -> None:
        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()

    state, started = cluster
    for name, value in (started.environment | mlflow_credentials(state)).items():
        monkeypatch.setenv(name, value)
    read_anew()
    yield started
    monkeypatch.undo()
    read_anew()


@pytest.mark.slow
def test_up_twice_is_up_once(cluster: tuple[Path, state_file.LocalCluster]) -> None:
    state, started = cluster
    assert lifecycle.up(state) == started
    status = lifecycle.status(state)
    assert status.running
    assert set(started.pids.values()) <= {
        process.pid for process in marked_processes.members(started.mark)
    }


@pytest.mark.slow
def test_behind_a_proxy_everything_that_was_started_is_reached(
    connected: state_file.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.job_submission import JobSubmissionClient

    from components.loopback import direct_loopback
    from components.registry import open_tracker
    from pipelines.local_cluster.addresses import check_jobs, check_ray

    started = connected
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "grpc_proxy"):
        monkeypatch.setenv(name, PROXIED["http_proxy"])
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.delenv("NO_PROXY", raising=False)
    check_ray(started.ray_address, os.environ)
    check_jobs(started.jobs_address, os.environ)
    for name, value in direct_loopback(os.environ).items():  # as every command begins
        monkeypatch.setenv(name, value)
    open_tracker("mlflow", started.tracking_uri).check()
    JobSubmissionClient(started.jobs_address).list_jobs()


@pytest.mark.slow
def test_a_server_that_died_is_started_again_beside_the_other(
    cluster: tuple[Path, state_file.LocalCluster],
) -> None:
    state, started = cluster
    now = state_file.read_cluster(state)
    assert now is not None
    for process in marked_processes.members(now.mark, "mlflow"):
        process.kill()
    ray = {process.pid for process in marked_processes.members(now.mark, "ray")}
    assert not lifecycle.status(state).mlflow
    said: list[str] = []
    again = lifecycle.up(state, say=said.append)
    assert "The MLflow server is not running any more; starting it again" in said
    assert (again.tracking_uri, again.pids["ray"]) == (started.tracking_uri, now.pids["ray"])
    assert ray <= {process.pid for process in marked_processes.members(now.mark, "ray")}
    assert lifecycle.status(state).running


@pytest.mark.slow
def test_nothing_listens_beyond_this_machine(cluster: tuple[Path, state_file.LocalCluster]) -> None:
    _, started = cluster
    listening = {
        connection.laddr.ip
        for process in marked_processes.members(started.mark)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.slow
def test_a_plain_job_gets_the_tracking_uri_the_home_and_this_interpreter(
    cluster: tuple[Path, state_file.LocalCluster], tmp_path: Path
) -> None:
    """Submitted by Ray's own command, with nothing passed along."""
    _, started = cluster
    (tmp_path / "job.py").write_text(
        "import os, sys, urllib.request\n"
        "server = os.environ['MLFLOW_TRACKING_URI']\n"
        "assert os.environ['http_proxy'] == 'http://127.0.0.1:9'\n"
        "assert urllib.request.urlopen(f'{server}/health', timeout=10).status == 200\n"
        "print(server, os.environ['PREFIXPROP_HOME'], sys.executable)\n"
    )
    ray = Path(sys.executable).parent / "ray"
    command = [
        str(ray),
        "job",
        "submit",
        "--address",
        started.jobs_address,
        "--working-dir",
        str(tmp_path),
        "--",
        "python",
        "job.py",
    ]
    ran = subprocess.run(
        command,
        env=os.environ | started.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    python = Path(sys.executable).parent / "python"
    assert f"{started.tracking_uri} {started.home} {python}" in ran.stdout


@pytest.mark.slow
def test_submit_runs_the_command_line_and_hands_on_its_exit_code(
    connected: state_file.LocalCluster,
) -> None:
    from pipelines.submit import submit

    project = Path(__file__).resolve().parents[3]
    log: list[str] = []
    ended = [
        submit(
            ["search", "demo", "--set", "adapter.prefix_lenght=1"],
            name="demo",
            jobs_address=connected.jobs_address,
            environ={},
            working_dir=project,
            write=log.append,
        )
        for _ in range(2)
    ]
    assert [submission.status for submission in ended] == ["FAILED", "FAILED"]
    assert [submission.exit_code for submission in ended] == [2, 2]
    assert [submission.submission_id.rpartition("-")[2] for submission in ended] == ["1", "2"]
    assert "Did you mean 'adapter.prefix_length'?" in "".join(log)


@pytest.mark.slow
def test_down_ends_everything_and_up_comes_back_on_the_same_mlflow_port(
    cluster: tuple[Path, state_file.LocalCluster],
) -> None:
    """Last in this file: it stops the module's cluster."""
    state, started = cluster
    assert lifecycle.down(state) >= 2
    assert marked_processes.members(started.mark) == []
    assert lifecycle.down(state) == 0
    port = int(started.tracking_uri.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    assert servers.mlflow_port(state) == port
