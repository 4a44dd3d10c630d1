"""What a submitted job is told: everybody who reaches the dashboard can read it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from components.errors import ConfigError
from pipelines.cli import app
from pipelines.submit import submit

SECRET = "s3cr3t-0f-ann"
EXPERIMENT = {
    "name": "toy",
    "backbone": {
        "source": "installed",
        "name_or_path": "all-MiniLM-L6-v2",
        "family": "longformer",
        "lengthen_to": 512,
        "attention_window": 128,
    },
    "data": {"files": {"train": "documents.jsonl"}, "max_tokens": 256},
    "search": {"space": {"adapter.prefix_length": {"choice": [4, 8]}}},
}


class JobServer(ThreadingHTTPServer):
    """As much of Ray's job server as a submission needs; keeps what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.told: list[dict[str, Any]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: JobServer

    def do_GET(self) -> None:
        if self.path == "/api/version":
            self.answer({"version": "4", "ray_version": "2.60.0", "ray_commit": ""})
        elif self.path == "/api/jobs/":
            self.answer([])
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
    assert told["runtime_env"]["env_vars"] == {"MLFLOW_TRACKING_URI": "http://host"}
    kept_back = "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN"
    assert lines[-1].startswith("Not passed on") and kept_back in lines[-1]


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
