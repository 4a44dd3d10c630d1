"""What a submitted job is told: everybody who reaches the dashboard can read it."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from typer.testing import CliRunner

from components.errors import ConfigError
from components.registry import code_version
from pipelines.cli import app
from pipelines.submit import continuing, is_lost, submission_base, submit
from pipelines.upload import check_upload, look_at
from tests.pipelines.typed import EXPERIMENT

SECRET = "s3cr3t-0f-ann"


class JobServer(ThreadingHTTPServer):
    """As much of Ray's job server as a submission needs; keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.told: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.ray_version = ray.__version__
        self.address = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    """What a Ray cluster answers; `server.jobs` are those of before."""

    server: JobServer

    def do_GET(self) -> None:
        if self.path == "/api/version":
            self.answer({"version": "4", "ray_version": self.server.ray_version, "ray_commit": ""})
        elif self.path == "/api/jobs/":
            self.answer(self.server.jobs)
        elif self.path.startswith("/api/packages/"):
            self.answer({})
        else:
            self.answer({"type": "SUBMISSION", "status": "RUNNING", "entrypoint": ""})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.append(body)
        self.answer({"job_id": "1", "submission_id": body["submission_id"]})

    def answer(self, content: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def job_server() -> Iterator[JobServer]:
    with JobServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that passes for the project, with an experiment in it and one beside it."""
    folder = tmp_path / "project"
    (folder / "pipelines").mkdir(parents=True)
    (folder / "pipelines" / "cli.py").write_text("")
    for path in (folder / "toy.yaml", tmp_path / "outside.yaml"):
        path.write_text(yaml.safe_dump(EXPERIMENT))
    for name in ("MLFLOW_TRACKING_URI", "RAY_API_SERVER_ADDRESS", "PREFIXPROP_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.chdir(folder)
    return folder


def send(server: JobServer, project: Path, environ: dict[str, str]) -> list[str]:
    lines: list[str] = []
    submit(
        ["search", "toy.yaml"],
        name="toy",
        jobs_address=server.address,
        environ=environ,
        working_dir=project,
        follow=False,
        say=lines.append,
    )
    return lines


def test_no_secret_of_the_environment_reaches_a_job(job_server: JobServer, project: Path) -> None:
    names = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "MLFLOW_TRACKING_TOKEN")
    environ = dict.fromkeys(names, SECRET) | {"MLFLOW_TRACKING_URI": f"http://ann:{SECRET}@host"}
    lines = send(job_server, project, environ)
    (told,) = job_server.told
    assert SECRET not in json.dumps(told) + "\n".join(lines)
    assert told["runtime_env"]["env_vars"] == {
        "MLFLOW_TRACKING_URI": "http://host",
        "PREFIXPROP_CODE_VERSION": code_version(),
    }
    kept_back = "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN"
    assert lines[-1].startswith("Not passed on") and kept_back in lines[-1]
    assert "AWS_SECRET_ACCESS_KEY, HF_TOKEN" in lines[-1]


def test_what_a_job_needs_and_everybody_may_read_reaches_it(
    job_server: JobServer, project: Path
) -> None:
    needed = {
        "NCCL_SOCKET_IFNAME": "eth1",
        "NCCL_DEBUG": "WARN",
        "GLOO_SOCKET_IFNAME": "eth1",
        "HF_HOME": "/shared/hub",
        "HF_HUB_OFFLINE": "1",
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "10.0.0.0/8",
        "PREFIXPROP_DATABASE": "postgresql://host/leases",
    }
    of_others = {"HOME": "/home/ann", "PATH": "/bin", "LANG": "C", "HF_HUB_CACHE": ""}
    lines = send(job_server, project, needed | of_others)
    told = job_server.told[0]["runtime_env"]["env_vars"]
    assert told == needed | {"PREFIXPROP_CODE_VERSION": code_version()}
    asked = set(job_server.told[0]["runtime_env"])
    assert asked == {"working_dir", "excludes", "env_vars"}, "packages are the nodes' own"
    assert not any(line.startswith("Not passed on") for line in lines)


def test_what_holds_a_password_is_named_and_stays(job_server: JobServer, project: Path) -> None:
    secret = {
        "HTTPS_PROXY": f"http://ann:{SECRET}@proxy:3128",
        "PREFIXPROP_DATABASE": f"postgresql://ann:{SECRET}@host/leases",
    }
    lines = send(job_server, project, secret | {"HTTP_PROXY": "http://proxy:3128"})
    (told,) = job_server.told
    assert SECRET not in json.dumps(told) + "\n".join(lines)
    assert "HTTP_PROXY" in told["runtime_env"]["env_vars"]
    assert "dashboard: HTTPS_PROXY, PREFIXPROP_DATABASE." in lines[-1]


def test_the_local_clusters_own_mlflow_server_is_not_named_to_its_jobs(
    job_server: JobServer, project: Path
) -> None:
    """They know it already, and its password with it."""
    own = {"MLFLOW_TRACKING_USERNAME": "prefixprop", "MLFLOW_TRACKING_PASSWORD": SECRET}
    lines = send(job_server, project, own | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:3"})
    assert set(job_server.told[0]["runtime_env"]["env_vars"]) == {"PREFIXPROP_CODE_VERSION"}
    assert not any(line.startswith("Not passed on") for line in lines)


def test_an_address_whose_password_cannot_be_taken_out_is_refused(
    job_server: JobServer, project: Path
) -> None:
    with pytest.raises(ConfigError, match="read on the dashboard") as caught:
        send(job_server, project, {"MLFLOW_TRACKING_URI": f"postgresql://ann:{SECRET}@host/db"})
    assert SECRET not in str(caught.value)
    assert not job_server.told


def test_an_argument_that_holds_a_secret_is_refused(job_server: JobServer, project: Path) -> None:
    with pytest.raises(ConfigError, match="read on the dashboard") as caught:
        submit(
            ["predict", "--input", f"https://h/x?token={SECRET}"],
            name="predict",
            jobs_address=job_server.address,
            environ={},
            working_dir=project,
        )
    assert SECRET not in str(caught.value)
    assert not job_server.told


def cli(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "../outside.yaml"],
        ["train", "toy.yaml", "--output", "../adapter"],
        ["predict", "--model", "m", "--input", "../in.jsonl", "--output", "out.jsonl"],
        ["search", "toy.yaml", "--set", "data.files.train=../in.jsonl"],
    ],
)
def test_a_path_that_leaves_the_uploaded_folder_is_refused_on_a_cluster_of_others(
    arguments: list[str],
    job_server: JobServer,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", job_server.address)
    code, output = cli("submit", "--no-wait", *arguments)
    assert code == 2
    assert "lies outside" in output and output.count("\n") == 1
    assert not job_server.told


def test_on_the_local_cluster_it_is_read_where_the_user_works(
    job_server: JobServer, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pipelines.command_line import invocation

    state = {
        "ray_address": "127.0.0.1:1",
        "jobs_address": job_server.address,
        "tracking_uri": "http://127.0.0.1:3",
        "environment": {},
    }
    (project / ".prefixprop").mkdir()
    (project / ".prefixprop" / "cluster.json").write_text(json.dumps(state))
    assert cli("submit", "--no-wait", "search", "../outside.yaml")[0] == 0
    variables = job_server.told[0]["runtime_env"]["env_vars"]
    assert variables["PREFIXPROP_HOME"] == str(project)
    uploaded = tmp_path / "uploaded" / "copy"
    uploaded.mkdir(parents=True)
    monkeypatch.chdir(uploaded)
    monkeypatch.setenv("PREFIXPROP_HOME", str(project))
    assert invocation.load("../outside.yaml", []).name == EXPERIMENT["name"]


def test_files_of_secrets_are_not_uploaded(project: Path) -> None:
    """The package is named after its content, so a file that goes along changes the name."""

    def package() -> str:
        with JobServer() as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            send(server, project, {})
            server.shutdown()
        return str(server.told[0]["runtime_env"]["working_dir"])

    before = package()
    (project / ".env").write_text(f"HF_TOKEN={SECRET}")
    (project / ".netrc").write_text(SECRET)
    assert package() == before
    (project / "notes").write_text("")
    assert package() != before


def earlier(status: str, attempt: int, *, code: str = "") -> dict[str, Any]:
    base = submission_base("toy", ["search", "toy.yaml"])
    return {
        "type": "SUBMISSION",
        "submission_id": f"{base}-{attempt}",
        "status": status,
        "entrypoint": "",
        "metadata": {"code": code},
    }


@pytest.mark.parametrize(
    ("statuses", "attempt", "continues"),
    [
        (["SUCCEEDED"], 2, False),
        (["FAILED"], 2, True),
        (["STOPPED"], 2, True),
        (["FAILED"] * 10, 11, True),
        (["FAILED", "SUCCEEDED"], 3, False),
    ],
)
def test_the_next_attempt_continues_what_failed_and_repeats_what_succeeded(
    statuses: list[str], attempt: int, continues: bool, job_server: JobServer, project: Path
) -> None:
    job_server.jobs = [earlier(status, 1 + number) for number, status in enumerate(statuses)]
    lines = send(job_server, project, {})
    (told,) = job_server.told
    base = submission_base("toy", ["search", "toy.yaml"])
    assert told["submission_id"] == f"{base}-{attempt}"
    assert told["entrypoint"].endswith("--resume if-any") == continues
    said = f"It continues what {base}-{attempt - 1} left, where that left anything"
    assert (said in lines) == continues


def test_a_running_job_is_followed_and_code_that_differs_is_told(
    job_server: JobServer, project: Path
) -> None:
    job_server.jobs = [earlier("FAILED", 1), earlier("RUNNING", 2, code="0123456789abcdef")]
    (line,) = send(job_server, project, {})
    assert not job_server.told
    assert "runs already; following it, with its own code 0123456789abcdef (here is " in line


def test_another_ray_on_the_cluster_is_told_in_a_line_with_the_fix(
    job_server: JobServer, project: Path
) -> None:
    assert f"Ray {ray.__version__} here and on the cluster" in send(job_server, project, {})[-1]
    job_server.ray_version = "2.1.0"
    assert "2.1.0 on the cluster: they must be the same (pip install ray==2.1.0" in "".join(
        send(job_server, project, {})
    )


def test_a_folder_that_is_too_large_is_refused_with_its_largest_entries(project: Path) -> None:
    (project / "documents" / "news").mkdir(parents=True)
    for name in ("a", "b"):
        (project / "documents" / "news" / name).write_bytes(os.urandom(40_000))
    (project / "documents" / "small").write_bytes(os.urandom(1000))
    (project / ".env").write_text("x")
    (project / ".rayignore").write_text("/kept-here/\n")
    (project / "kept-here").mkdir()
    (project / "kept-here" / "large").write_bytes(os.urandom(500_000))
    found = look_at(project, [".env"])
    assert found.entries[0] == ("documents/news", 80_000) and found.bytes < 100_000
    assert set(found.left_out) == {".env", "kept-here"}
    assert check_upload(project, [".env"], limit=100_000) == found
    with pytest.raises(ConfigError, match=r"Largest: documents/news \(0\.1 MiB\)") as refused:
        check_upload(project, [".env"], limit=50_000)
    assert "a line such as /documents/news to .rayignore" in str(refused.value)


def test_the_size_that_is_checked_is_that_of_rays_package(project: Path, tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    (project / "zeros").write_bytes(bytes(1_000_000))
    package = tmp_path / "upload.zip"
    create_package(str(project), package, include_gitignore=True)
    assert 0 <= package.stat().st_size - look_at(project, []).bytes < 1000


def test_only_commands_that_do_not_continue_by_themselves_are_told_to() -> None:
    assert continuing(["search", "x"]) == ["search", "x", "--resume", "if-any"]
    assert continuing(["search", "x", "--resume", "ID"]) == ["search", "x", "--resume", "ID"]
    assert continuing(["train", "x", "-o", "a"]) == ["train", "x", "-o", "a", "--resume"]
    assert continuing(["retrain", "x"]) == ["retrain", "x"]


@pytest.mark.parametrize(
    ("status", "kind", "code", "lost"),
    [
        ("FAILED", "JOB_SUPERVISOR_ACTOR_DIED", None, True),
        ("FAILED", "JOB_ENTRYPOINT_COMMAND_ERROR", 2, False),
        ("FAILED", "RUNTIME_ENV_SETUP_FAILURE", None, False),
        ("STOPPED", None, None, False),
        ("SUCCEEDED", None, 0, False),
    ],
)
def test_a_job_is_lost_where_it_did_not_end_by_itself(
    status: str, kind: str | None, code: int | None, lost: bool
) -> None:
    from ray.job_submission import JobDetails, JobStatus, JobType

    details = JobDetails(
        type=JobType.SUBMISSION,
        submission_id="a-1",
        entrypoint="",
        status=JobStatus(status),
        error_type=kind,
        driver_exit_code=code,
    )
    assert is_lost(details) == lost
