"""Who gets into the embedded cluster: its owner, by a token of a private state folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import ConfigError
from pipelines.local_cluster import access, marked_processes, servers
from pipelines.local_cluster.state_file import LocalCluster

CLUSTER = LocalCluster(
    "127.0.0.1:1",
    "http://127.0.0.1:2",
    "http://127.0.0.1:2",
    "http://127.0.0.1:3",
    {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/a b/ray_token"},
    "/home",
    "mark",
    {"ray": 1, "mlflow": 2},
)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    for folder in (tmp_path / "state", tmp_path / "new" / "state"):
        assert mode(access.private_folder(folder, "--state")) == 0o700


def test_a_token_is_private_and_kept_and_a_given_one_takes_its_place(tmp_path: Path) -> None:
    file = tmp_path / "token"
    made = access.kept_token(file)
    assert len(made) == 64 and mode(file) == 0o600
    file.chmod(0o644)
    assert access.kept_token(file) == made and mode(file) == 0o600
    assert access.kept_token(file, given="mine") == "mine" == access.read_token(file)
    for damaged in (b"", b"\xff\xfe", b"\x00\x01"):
        file.write_bytes(damaged)
        assert len(access.kept_token(file)) == 64
    assert access.kept_token(tmp_path / "another") != made


def test_ray_asks_for_a_token_unless_it_is_told_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "ray_token"
    assert access.ray_environment(tmp_path, {"RAY_AUTH_MODE": "disabled"}) == {
        "RAY_AUTH_MODE": "disabled"
    }
    assert not file.exists()
    by_token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}
    assert access.ray_environment(tmp_path, {}) == by_token
    made = access.read_token(file)
    assert access.ray_environment(tmp_path, {}) == by_token and access.read_token(file) == made
    assert access.ray_environment(tmp_path, {"RAY_AUTH_TOKEN": "mine"}) == by_token
    assert access.read_token(file) == "mine"
    (tmp_path / "his").write_text("his\n")
    access.ray_environment(tmp_path, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "his")})
    assert access.read_token(file) == "his"
    with pytest.raises(ConfigError, match="RAY_AUTH_TOKEN holds characters"):
        access.ray_environment(tmp_path, {"RAY_AUTH_TOKEN": "a\nb"})


def test_jobs_get_the_local_credentials_and_keep_those_of_another_server(tmp_path: Path) -> None:
    access.kept_token(tmp_path / "mlflow_token", given="secret")
    assert access.tracking_environment("http://127.0.0.1:3", tmp_path, {}) == {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:3",
        "MLFLOW_TRACKING_USERNAME": "prefixprop",
        "MLFLOW_TRACKING_PASSWORD": "secret",
    }
    team = {"MLFLOW_TRACKING_TOKEN": "the team's"}
    assert access.tracking_environment("http://127.0.0.1:3", tmp_path, team) == {
        "MLFLOW_TRACKING_URI": "http://prefixprop:secret@127.0.0.1:3"
    }


def test_the_mlflow_server_gets_none_of_the_shells_mlflow_settings(tmp_path: Path) -> None:
    given = {
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
        "MLFLOW_DEPLOYMENTS_TARGET": "http://elsewhere",
        "_MLFLOW_IN_JOB_EXECUTOR": "true",
        "RAY_AUTH_TOKEN": "another's",
        "HOME": "/home/ann",
    }
    environ = servers.server_environment("mlflow", CLUSTER, tmp_path, given)
    assert environ["HOME"] == "/home/ann" and "RAY_AUTH_TOKEN" not in environ
    assert {name for name in environ if "MLFLOW_" in name} == {
        "MLFLOW_DISABLE_TELEMETRY",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
        "PREFIXPROP_MLFLOW_TOKEN_FILE",
    }
    assert environ["DO_NOT_TRACK"] == "true"


def test_a_shell_reads_how_to_get_in(tmp_path: Path) -> None:
    access.kept_token(tmp_path / "mlflow_token", given="secret")
    access.write_environment(CLUSTER, tmp_path)
    file = Path(access.access_to(CLUSTER, tmp_path).environment_file)
    assert mode(file) == 0o600
    show = f". {file} && echo $RAY_AUTH_TOKEN_PATH $MLFLOW_TRACKING_URI $MLFLOW_TRACKING_PASSWORD"
    told = subprocess.run(["sh", "-c", show], capture_output=True, text=True, check=True).stdout
    assert told == "/a b/ray_token http://127.0.0.1:3 secret\n"


def test_what_a_server_writes_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    program = "open('file', 'w').close(); __import__('os').mkdir('folder')"
    log = tmp_path / "log"
    command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {program}"]
    os.waitpid(marked_processes.spawn(command, os.environ, log), 0)
    assert (mode(tmp_path / "file"), mode(tmp_path / "folder")) == (0o600, 0o700)
