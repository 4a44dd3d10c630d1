"""What a team has, all at once: three nodes that want a token, runs in PostgreSQL and artifacts in
S3 behind an MLflow server with users, and a colleague's machine that knows two HTTP addresses.
"""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.nodes.network import Machine
from tests.nodes.ray_nodes import ROOT, RayNodes, ray_nodes
from tests.nodes.searches import two_rank_search
from tests.postgres import new_postgres_database
from tests.ray_cluster import copy_project
from tests.registry_fixtures import sample_texts
from tests.team_server import ANN, BUCKET, server_options, server_variables
from tests.toy import make_documents

__all__ = ["new_postgres_database"]

pytestmark = pytest.mark.slow
S3_PORT, COMMAND_SECONDS = 9000, 1500
MAKE_BUCKET = "import sys; from tests.s3 import make_bucket; make_bucket(*sys.argv[1:])"


@dataclass(frozen=True)
class Team:
    """`desk`: the colleague's machine, no node; `variables`: what she knows."""

    cluster: RayNodes
    desk: Machine
    project: Path
    variables: dict[str, str]

    def prefixprop(self, *words: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        """A command typed at the desk."""
        known = self.cluster.environment(self.desk)
        for name in self.cluster.variables:
            del known[name]
        return subprocess.run(
            self.desk.command(sys.executable, "-m", "pipelines.cli", *words, cwd=self.project),
            env=known | {"PYTHONPATH": str(self.project)} | self.variables | changes,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )

    def done(self, *words: str) -> str:
        """What a command prints that has to succeed."""
        ended = self.prefixprop(*words)
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
        return ended.stdout

    def answers(self) -> list[dict[str, Any]]:
        """What the champion answers."""
        words = ["-m", "models:/toy@champion", "-i", "in.jsonl", "-o", "out.jsonl"]
        self.done("predict", *words)
        text = (self.project / "out.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def champion(self) -> int:
        return int(self.history()["champion"])

    def history(self) -> dict[str, Any]:
        return dict(json.loads(self.done("history", "toy", "--json")))


@pytest.fixture(scope="module")
def team(new_postgres_database: Any) -> Iterator[Team]:
    pytest.importorskip("moto", reason="moto is not installed (make install)")
    database, token, password = new_postgres_database(), secrets.token_hex(32), secrets.token_hex(9)
    user = {"MLFLOW_TRACKING_USERNAME": ANN, "MLFLOW_TRACKING_PASSWORD": password}
    tokens = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    # As infra/README.md says: secrets are in the environment of the cluster's own processes.
    of_nodes = {**tokens, **user, "PREFIXPROP_DATABASE": database}
    with ray_nodes({}, {}, {}, variables=of_nodes) as cluster:
        _start_mlflow_with_users(cluster, database, password)
        project = _project(cluster)
        addresses = {
            "RAY_API_SERVER_ADDRESS": cluster.jobs_address,
            "MLFLOW_TRACKING_URI": cluster.tracking_uri,
        }
        yield Team(cluster, cluster.network.add(), project, {**tokens, **user, **addresses})


def _start_mlflow_with_users(cluster: RayNodes, database: str, password: str) -> None:
    machine, admins = cluster.network.add(), secrets.token_hex(9)
    endpoint = f"http://{machine.address}:{S3_PORT}"
    store = [sys.executable, "-m", "moto.server", "--host", machine.address, "--port", str(S3_PORT)]
    log, own = cluster.folder / "s3.log", cluster.environment(machine)
    machine.start(store, log=log, environment=own, cwd=cluster.folder)
    bucket = [sys.executable, "-c", MAKE_BUCKET, endpoint, BUCKET]
    cluster.until(
        lambda: machine.run("env", f"PYTHONPATH={ROOT}", *bucket) == "", "the S3 store's bucket"
    )
    variables = server_variables(cluster.folder, database, endpoint, admins)
    cluster.start_mlflow(machine, server_options(database), variables)
    subprocess.run(
        machine.command(sys.executable, "-m", "tests.team_server", cluster.tracking_uri),
        env=cluster.environment(machine) | {"ADMINS": admins, "ANNS": password},
        check=True,
    )


def _project(cluster: RayNodes) -> Path:
    """The colleague's clone, with an experiment whose documents all nodes see."""
    project = cluster.folder / "desk"
    project.mkdir()
    copy_project(project)
    values = two_rank_search(cluster, **{"cluster.placement": "spread", "zero.stage": 2})
    documents = cluster.shared / "all.jsonl"
    make_documents(documents, 60, seed=1)
    values["data"]["files"] = {"train": str(documents)}
    del values["gate"]  # a retraining needs it
    (project / "toy.yaml").write_text(yaml.safe_dump(values))
    weekly = {
        "name": "weekly",
        "experiment": "toy.yaml",
        "round_champion": {"learning_rate_factors": [1.0]},
        "drift": {"text": "fine"},
    }
    (project / "weekly.yaml").write_text(yaml.safe_dump(weekly))
    lines = "".join(json.dumps({"text": text}) + "\n" for text in sample_texts(8))
    (project / "in.jsonl").write_text(lines)
    return project


def test_a_wrong_token_and_a_wrong_password_are_refused_and_explained(team: Team) -> None:
    wrong = team.prefixprop("submit", "search", "toy.yaml", RAY_AUTH_TOKEN="0" * 64)
    assert wrong.returncode == 2
    assert f"{team.cluster.jobs_address} refuses the token. Set RAY_AUTH_MODE=token" in wrong.stderr
    wrong = team.prefixprop("history", "toy", MLFLOW_TRACKING_PASSWORD="wrong")
    assert wrong.returncode == 2 and "refused the credentials (401)" in wrong.stderr
    assert json.loads(team.done("jobs", "--json")) == []


def test_search_retraining_promotion_and_rollback_by_http_addresses_alone(team: Team) -> None:
    assert "registered" in team.done("submit", "search", "toy.yaml")
    assert team.champion() == 1
    first = team.answers()

    make_documents(team.cluster.shared / "more.jsonl", 24, seed=2)
    more = (team.cluster.shared / "more.jsonl").read_text()
    with (team.cluster.shared / "all.jsonl").open("a") as documents:
        documents.write(more)
    retrained = team.prefixprop("submit", "retrain", "weekly.yaml")
    assert retrained.returncode in (0, 3), retrained.stdout[-3000:] + retrained.stderr[-3000:]
    first_champion, decision = (entry["action"] for entry in team.history()["entries"])
    assert first_champion == "first" and decision in ("promoted", "held", "rejected")

    if decision != "promoted":  # the gate lets it wait, and somebody knows better
        words = ["--version", "2", "--force", "--reason", "a test wants it"]
        team.done("submit", "promote", "toy", *words)
    assert team.champion() == 2
    assert team.answers() != first

    team.done("submit", "rollback", "toy", "--reason", "it was better before")
    assert team.champion() == 1
    assert team.answers() == first


def test_nothing_secret_stands_in_a_job(team: Team) -> None:
    """The dashboard shows every job's command and environment to whoever has the token."""
    shown = team.cluster.dashboard("/api/jobs/")
    assert len(json.loads(shown)) >= 3
    secret = [*team.cluster.variables.items()]
    assert [name for name, value in secret if len(value) > 8 and value in shown] == []
