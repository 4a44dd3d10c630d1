"""The manifests parse, and say what the code relies on. Not covered: a real cluster taking them."""

import re
import shlex
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.experiments import load_experiment

PROJECT = Path(__file__).resolve().parents[2]
MANIFESTS = sorted((PROJECT / "infra").rglob("*.yaml"))


def pinned(name: str) -> str:
    found = re.search(
        rf"^{name}==(\S+)$", (PROJECT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found is not None
    return found[1]


def read(name: str) -> Any:
    return yaml.safe_load((PROJECT / "infra" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_one_yaml_document(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def overrides(words: list[str]) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words) if word == "--set"]


def test_the_ray_job_runs_a_command_that_exists_on_the_pinned_ray() -> None:
    spec = read("kuberay/rayjob.yaml")["spec"]
    words = spec["entrypoint"].split()
    assert words[:4] == ["python", "-m", "pipelines.cli", "search"]
    load_experiment(words[4], overrides(words))
    assert spec["rayClusterSpec"]["rayVersion"] == pinned("ray")
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_the_ray_job_has_room_for_its_slots() -> None:
    spec = read("kuberay/rayjob.yaml")["spec"]
    words = spec["entrypoint"].split()
    config = load_experiment(words[4], overrides(words))
    group = spec["rayClusterSpec"]["workerGroupSpecs"][0]
    cpus = group["replicas"] * float(
        group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    )
    assert (
        config.search.concurrent_slots * config.cluster.num_workers * config.cluster.cpus_per_worker
        <= cpus
    )


def test_the_cron_job_never_runs_twice_at_once_and_its_command_exists() -> None:
    spec = read("kuberay/cronjob.yaml")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    container = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    program, *arguments = shlex.split(container["args"][0].partition(";")[0])
    assert program == "prefixprop"
    answer = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert answer.exit_code == 0, answer.output


def test_the_team_server_is_the_pinned_mlflow() -> None:
    content = read("mlflow/compose.yaml")
    command = " ".join(content["services"]["mlflow"]["command"])
    assert f"mlflow[auth]=={pinned('mlflow')}" in command
    assert "--allowed-hosts" in command


def test_the_team_server_asks_who_they_are() -> None:
    content = read("mlflow/compose.yaml")
    service = content["services"]["mlflow"]
    assert "--app-name basic-auth" in " ".join(service["command"])
    for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        assert service["environment"][name].startswith(f"${{{name}:?")
    (file,) = service["configs"]
    assert file["target"] == service["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    settings = ConfigParser(interpolation=None)
    settings.read_string(content["configs"][file["source"]]["content"])
    assert {"default_permission", "database_uri", "admin_username"} <= set(settings["mlflow"])
