"""Half a state folder, as a full disk, a power cut or another version leaves it: passed over where
nothing is lost by it, told with the fix where something would be.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from components.errors import ClusterError, ConfigError
from pipelines.local_cluster import lifecycle, marked_processes, servers
from pipelines.local_cluster.addresses import connection_environment, find_addresses
from pipelines.local_cluster.state_file import (
    LocalCluster,
    read_cluster,
    read_port,
    write_cluster,
    write_port,
)

CLUSTER = LocalCluster(
    "127.0.0.1:1",
    "http://127.0.0.1:2",
    "http://127.0.0.1:2",
    "http://127.0.0.1:3",
    {"A": "1"},
    "/home",
    "mark",
    {"ray": 1, "mlflow": 2},
)
DAMAGED = {
    "empty": b"",
    "truncated": b'{"ray_address": "127.0.0.1:1", "jobs',
    "binary": b"\x80\x00\xff",
    "a list": b"[]",
    "a number": b"7",
    "nothing": b"null",
    "nothing in it": b"{}",
    "another type": json.dumps(asdict(CLUSTER) | {"ray_address": 1}).encode(),
    "another environment": json.dumps(asdict(CLUSTER) | {"environment": ["A"]}).encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_told_with_the_fix(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_bytes(content)
    for read in (
        lambda: lifecycle.status(tmp_path),
        lambda: find_addresses({}, state_folder=tmp_path),
        lambda: find_addresses({"RAY_ADDRESS": "head:6379"}, state_folder=tmp_path),
    ):
        with pytest.raises(ClusterError, match=r"cluster\.json cannot be read.*prefixprop up"):
            read()


@pytest.mark.parametrize("pids", [{}, {"ray": 1}, {"ray": 1, "mlflow": "2"}, [1, 2]])
def test_a_file_without_both_processes_is_told_with_the_fix(pids: object, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(json.dumps(asdict(CLUSTER) | {"pids": pids}))
    with pytest.raises(ClusterError, match="prefixprop up"):
        read_cluster(tmp_path)


def test_a_damaged_file_is_passed_over_where_the_environment_names_everything(
    tmp_path: Path,
) -> None:
    (tmp_path / "cluster.json").write_bytes(b"")
    environ = {"RAY_ADDRESS": "head:6379", "MLFLOW_TRACKING_URI": "http://mlflow"}
    found = find_addresses(environ, state_folder=tmp_path)
    assert (found.ray_address, found.tracking_uri) == ("head:6379", "http://mlflow")
    assert "A" not in connection_environment(found, environ, state_folder=tmp_path)


def test_a_later_version_may_know_more(tmp_path: Path) -> None:
    write_cluster(tmp_path, CLUSTER)
    content = json.loads((tmp_path / "cluster.json").read_text()) | {"later": [1]}
    (tmp_path / "cluster.json").write_text(json.dumps(content))
    assert read_cluster(tmp_path) == CLUSTER


@pytest.mark.parametrize(
    "content", [b"", b"abc", b"\xff\xfe", b"0", b"80", b"-1", b"70000", b"1.5"]
)
def test_a_port_file_that_holds_no_port_counts_as_absent(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    file = tmp_path / "mlflow" / "port"
    file.write_bytes(content)
    assert read_port(file) is None
    port = servers.mlflow_port(tmp_path)
    assert read_port(file) == port == servers.mlflow_port(tmp_path)


def test_a_port_is_remembered_whole_or_not_at_all(tmp_path: Path) -> None:
    write_port(tmp_path / "port", 40001)
    assert read_port(tmp_path / "port") == 40001
    assert os.listdir(tmp_path) == ["port"]
    assert read_port(tmp_path) is None


@pytest.mark.parametrize("content", [b"\0" * 5000, b"SQLite format 3\0" + b"\7" * 5000])
def test_a_damaged_database_is_told_before_anything_starts(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_bytes(content)
    with pytest.raises(ClusterError, match=r"mlflow\.db' is no whole database.*move it away"):
        lifecycle.up(tmp_path)
    assert not (tmp_path / "cluster.json").exists()
    assert marked_processes.members(marked_processes.folder_mark(tmp_path)) == []


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--state: .*Not a directory"):
        lifecycle.up(tmp_path / "file" / "state")
    assert lifecycle.down(tmp_path / "file" / "state") == 0


def test_down_ends_what_a_damaged_or_lost_file_told_of(tmp_path: Path) -> None:
    for content in (b"", None):
        environ = os.environ | {
            marked_processes.MARK: marked_processes.new_mark(tmp_path),
            marked_processes.SERVER: "ray",
        }
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        pid = marked_processes.spawn(sleep, environ, tmp_path / "log")
        if content is not None:
            (tmp_path / "cluster.json").write_bytes(content)
        assert lifecycle.down(tmp_path) == 1
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert not (tmp_path / "cluster.json").exists()


def test_helpers_without_an_environment_are_known_by_parent_and_session(tmp_path: Path) -> None:
    """As those of Ray that write their title over it; here they are started without one."""
    program = (
        "import subprocess, sys, time\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "subprocess.Popen(sleep, env={})\n"
        "subprocess.Popen(sleep, env={'PREFIXPROP_CLUSTER': 'of another'})\n"
        "print('started', flush=True)\n"
        "time.sleep(60)\n"
    )
    mark = marked_processes.new_mark(tmp_path)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={})
    environ = os.environ | {marked_processes.MARK: mark, marked_processes.SERVER: "mlflow"}
    log = tmp_path / "log"
    leader = marked_processes.spawn([sys.executable, "-c", program], environ, log)
    try:
        while "started" not in log.read_text():
            psutil.cpu_percent(interval=0.05)
        assert len(marked_processes.members(mark)) == 2
        assert len(marked_processes.members(mark, "mlflow")) == 2
        assert marked_processes.members(mark, "ray") == []
        psutil.Process(leader).kill()
        psutil.wait_procs([psutil.Process(leader)], timeout=5)
        left = marked_processes.members(mark, leaders=[leader])
        assert len(left) == 1
        assert marked_processes.stop(mark, leaders=[leader]) == 1
        assert bystander.poll() is None
        other = marked_processes.members("of another")
        assert len(other) == 1
    finally:
        marked_processes.stop("of another")
        bystander.kill()
        bystander.wait()


def test_a_helper_that_nothing_leads_to_any_more_is_known_by_the_logs_that_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's agents once all else of it was killed: no environment, parent, leader or file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where Ray's folder is, of a long path
    logs = servers.ray_path(tmp_path) / "session" / "logs"
    logs.mkdir(parents=True)
    program = "import sys, time; log = open(sys.argv[1], 'w'); log.write('x'); time.sleep(60)"
    helper, bystander = (
        subprocess.Popen([sys.executable, "-c", program, file], env={}, start_new_session=True)
        for file in (str(logs / "agent.log"), str(tmp_path / "elsewhere.log"))
    )
    try:
        while not ((logs / "agent.log").exists() and (tmp_path / "elsewhere.log").exists()):
            psutil.cpu_percent(interval=0.05)
        assert lifecycle.down(tmp_path) == 1
        helper.wait(5)
        assert bystander.poll() is None
    finally:
        for each in (helper, bystander):
            each.kill()
            each.wait()


def test_a_helper_whose_leader_is_gone_is_known_by_what_is_marked_in_its_session(
    tmp_path: Path,
) -> None:
    program = (
        "import os, subprocess, sys\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "orphan = 'import os, sys; os.fork() and os._exit(0); os.execve(sys.executable, '\n"
        'orphan += \'[sys.executable, "-c", "import time; time.sleep(60)"], {})\'\n'
        "subprocess.run([sys.executable, '-c', orphan])\n"
        "subprocess.Popen(sleep)\n"
    )
    mark = marked_processes.new_mark(tmp_path)
    command = [sys.executable, "-c", program]
    leader = marked_processes.spawn(
        command, os.environ | {marked_processes.MARK: mark}, tmp_path / "log"
    )
    os.waitpid(leader, 0)
    assert len(marked_processes.members(mark)) == 2
    assert lifecycle.down(tmp_path) == 2
    assert marked_processes.members(mark, leaders=[leader]) == []
