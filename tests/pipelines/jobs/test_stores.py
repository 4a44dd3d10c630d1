"""What a team has: runs in PostgreSQL, artifacts in S3 through the MLflow server's proxy, and users
with passwords. 50 trials of one search by a user who is no admin are all there, once.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry.mlflow_tracker import CONFIG_FILE
from pipelines.local_cluster.servers import free_port
from tests.components.inference.test_models_serve import Served, serving, wait_for
from tests.conftest import build_tiny_decoder
from tests.ray_cluster import environment_on
from tests.s3 import CREDENTIALS, make_bucket
from tests.team_server import ANN, BUCKET, make_user, server_options, server_variables
from tests.toy import make_experiment

pytestmark = pytest.mark.slow

TRIALS = 50
ADMINS = secrets.token_urlsafe(12)
"""The administrator's password."""
START_SECONDS = 120.0


@dataclass(frozen=True)
class Team:
    """`uri`: of the MLflow server; `password`: Ann's."""

    uri: str
    endpoint: str
    password: str

    def user(self, password: str | None) -> dict[str, str]:
        """The variables of Ann's clients, with this password."""
        if password is None:
            return {"MLFLOW_TRACKING_URI": self.uri}
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": ANN,
            "MLFLOW_TRACKING_PASSWORD": password,
        }


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory, new_postgres_database: Any, s3_endpoint: str
) -> Iterator[Team]:
    """As infra/README.md says, on ports of this machine."""
    folder = tmp_path_factory.mktemp("team")
    make_bucket(s3_endpoint, BUCKET)
    database = new_postgres_database()
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_"))
    }
    environment |= server_variables(folder, database, s3_endpoint, ADMINS)
    port = free_port()
    options = {
        "host": "127.0.0.1",
        "port": port,
        "workers": 1,
    } | server_options(database)
    command = [sys.executable, "-m", "mlflow", "server", "--serve-artifacts"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    uri, password = f"http://127.0.0.1:{port}", secrets.token_urlsafe(12)
    try:
        _wait_until_it_answers(uri, process, folder / "log")
        make_user(uri, admins=ADMINS, password=password)
        yield Team(uri, s3_endpoint, password)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _wait_until_it_answers(uri: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"the MLflow server did not come up: {log.read_text()[-2000:]}")


def prefixprop(folder: Path, address: str, variables: dict[str, str], *words: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *words],
        cwd=folder,
        env=environment_on(address, folder) | variables,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    search = {
        "searcher": "random",
        "trial_scheduler": "none",
        "num_trials": TRIALS,
        "concurrent_slots": 2,
        "space": {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-1]}},
    }
    changes = {"head.pooling": "last", "name": "team", "search": search, "training.epochs": 1}
    values = make_experiment(folder, build_tiny_decoder(pad_token_id=1), **changes)
    (folder / "team.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.mark.parametrize("password", ["wrong-password", None])
def test_a_wrong_or_missing_password_is_told_before_anything_starts(
    experiment: Path, team: Team, ray_address: str, password: str | None
) -> None:
    ended = prefixprop(experiment, ray_address, team.user(password), "search", "team.yaml")
    assert ended.returncode == 2, ended.stderr
    assert "refused the credentials (401)" in ended.stderr
    assert not (experiment / "storage").exists()


@pytest.fixture(scope="module")
def report(experiment: Path, team: Team, ray_address: str) -> dict[str, Any]:
    started = time.monotonic()
    ended = prefixprop(
        experiment, ray_address, team.user(team.password), "search", "team.yaml", "--json"
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    print(f"{TRIALS} trials, their runs and artifacts: {time.monotonic() - started:.0f} s")
    return dict(json.loads(ended.stdout))


@pytest.fixture
def client(team: Team, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow import MlflowClient

    for name, value in team.user(team.password).items():
        monkeypatch.setenv(name, value)
    return MlflowClient(team.uri, team.uri)


def test_every_trial_is_one_run_and_every_evaluation_one_point(
    report: dict[str, Any], client: Any
) -> None:
    (experiment,) = [each for each in client.search_experiments() if each.name == "team"]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    trials = [run for run in runs if run.data.tags.get("kind") == "trial"]
    assert len(trials) == len(report["trials"]) == TRIALS
    rates = {run.data.params["learning_rate"] for run in trials}
    assert len(rates) == TRIALS
    assert Counter(run.info.status for run in trials) == {"FINISHED": TRIALS}
    assert [run.info.run_id for run in runs if run not in trials] == [report["search_run_id"]]
    for run in runs:
        for metric in run.data.metrics:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, metric)]
            assert steps == sorted(set(steps)), (run.info.run_name, metric, steps)


def test_artifacts_lie_in_the_bucket_and_come_back_through_the_server(
    report: dict[str, Any], client: Any, team: Team, tmp_path: Path
) -> None:
    import boto3

    credentials = {
        "aws_access_key_id": CREDENTIALS["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        "region_name": CREDENTIALS["AWS_DEFAULT_REGION"],
    }
    store = boto3.client("s3", endpoint_url=team.endpoint, **credentials)
    pages = store.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    keys = [item["Key"] for page in pages for item in page["Contents"]]
    (kept,) = [
        key for key in keys if key.endswith(f"{report['search_run_id']}/artifacts/{CONFIG_FILE}")
    ]
    body = store.get_object(Bucket=BUCKET, Key=kept)["Body"].read()
    file = client.download_artifacts(report["search_run_id"], CONFIG_FILE, str(tmp_path))
    assert Path(file).read_bytes() == body
    assert any(key.endswith(".safetensors") for key in keys)


def test_the_registered_version_answers_from_there(
    report: dict[str, Any], experiment: Path, team: Team, ray_address: str
) -> None:
    words = ["predict", "-m", "models:/team@champion", "-i", "test.jsonl", "-o", "out.jsonl"]
    ended = prefixprop(experiment, ray_address, team.user(team.password), *words)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert len((experiment / "out.jsonl").read_text().splitlines()) == 9
    refused = prefixprop(experiment, ray_address, team.user("wrong-password"), *words)
    assert refused.returncode == 2 and "refused the credentials" in refused.stderr


def test_models_serve_answers_from_there(
    report: dict[str, Any], experiment: Path, team: Team, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (experiment / "test.jsonl").read_text().splitlines()]
    settings = {"MLFLOW_PYFUNC_INFERENCE_CONFIG": json.dumps({"cache_path": str(tmp_path)})}
    further = team.user(team.password) | settings
    with serving("models:/team@champion", tmp_path, team.uri, further) as (address, process, log):
        wait_for(address, process, log)
        status, answer = Served(address, None, ()).ask(  # type: ignore[arg-type]
            [[row["text"]] for row in rows], with_version=True
        )
    assert status == 200, answer
    assert [each["model"] for each in answer["predictions"]] == ["team/1"] * len(rows)
