"""A schedule as a CronJob: what Kubernetes' own schema takes, and what the schema does not see."""

import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from components.errors import ConfigError
from pipelines.cli import app
from pipelines.scheduling.commands import coming
from pipelines.scheduling.cron_job import cron_job
from pipelines.scheduling.schedules import ScheduleConfig, load_schedules

INFRA = Path(__file__).resolve().parents[3] / "infra" / "kuberay" / "base"
WEEK = 7 * 24 * 3600


def schedule(**changes: Any) -> ScheduleConfig:
    values = {"name": "weekly", "command": ("retrain", "spec.yaml"), "cron": "0 3 * * 1"}
    return ScheduleConfig(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"name": "Very_Special.one", "timezone": "Europe/Berlin", "missed": "skip"},
        {"command": ("search", "demo", "--set", "data.files.train=it's here; rm -rf x")},
        {"cron": "*/5 1-3,7 * JAN-MAR MON", "retries": 0},
    ],
)
def test_kubernetes_takes_what_is_rendered(changes: dict[str, Any]) -> None:
    manifest = cron_job(schedule(**changes), paused=False)
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    spec = manifest["spec"]
    assert spec["concurrencyPolicy"] == "Forbid" and spec["suspend"] is False
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "a podFailurePolicy needs it"
    (rule, _) = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == pod["containers"][0]["name"]


def test_a_misspelt_key_is_no_manifest() -> None:
    manifest = cron_job(schedule(), paused=False)
    manifest["spec"]["concurencyPolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_a_time_is_made_up_for_until_the_next_or_not_at_all() -> None:
    def deadline(**changes: Any) -> object:
        return cron_job(schedule(**changes), paused=False)["spec"]["startingDeadlineSeconds"]

    assert deadline() == WEEK
    assert deadline(timezone="Europe/Berlin") == WEEK + 3600, "a week with summer time's end"
    assert deadline(cron="0 3 * * 1-5") == 3 * 24 * 3600, "over the week-end"
    assert deadline(missed="skip", late_seconds=600) == 600
    assert deadline(missed="skip", late_seconds=1) == 20, "Kubernetes looks every 10 s"


@pytest.mark.parametrize(("code", "ends_with"), [(0, 0), (1, 1), (2, 2), (3, 0), (130, 130)])
def test_a_gate_that_refused_is_no_failure_of_the_job(
    code: int, ends_with: int, tmp_path: Path
) -> None:
    manifest = cron_job(schedule(command=("search", "it's here")), paused=False)
    container = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    program = tmp_path / "prefixprop"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\nexit {code}\n')
    program.chmod(0o755)
    done = subprocess.run(
        [*container["command"], *container["args"]],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == ends_with
    assert (tmp_path / "told").read_text().splitlines() == ["submit", "search", "it's here"]


@pytest.mark.parametrize(
    "changes",
    [{"cron": "0 3 L * *"}, {"cron": "0 3 * * 1#2"}, {"cron": "0 3 * * 7"}, {"name": "n" * 60}],
)
def test_what_kubernetes_could_not_run_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"five plain fields|a shorter name"):
        cron_job(schedule(**changes), paused=False)


def test_the_checked_in_cron_job_is_what_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(INFRA.parents[2])
    monkeypatch.setenv("PREFIXPROP_DATABASE", "")
    arguments = ["schedule", "render", "infra/kuberay/base/schedules.yaml", "weekly"]
    answer = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert answer.exit_code == 0
    assert answer.stdout == (INFRA / "cronjob.yaml").read_text(encoding="utf-8")
    kubernetes_validate.validate(
        yaml.safe_load(answer.stdout), kubernetes_validate.latest_version(), strict=True
    )


def test_a_paused_schedule_is_rendered_suspended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "PREFIXPROP_DATABASE", "PREFIXPROP_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    one = {"name": "weekly", "command": ["retrain", "w.yaml"], "cron": "0 3 * * 1"}
    Path("s.yaml").write_text(yaml.safe_dump({"schedules": [one]}))

    def suspended() -> object:
        answer = CliRunner().invoke(app, ["schedule", "render", "s.yaml", "weekly"])
        return yaml.safe_load(answer.stdout)["spec"]["suspend"]

    assert suspended() is False
    assert CliRunner().invoke(app, ["schedule", "pause", "s.yaml", "weekly"]).exit_code == 0
    assert suspended() is True


def test_the_coming_starts_are_told_by_both_clocks() -> None:
    (weekly,) = load_schedules(INFRA / "schedules.yaml")
    before_winter = 1792800000.0  # 2026-10-24 00:00 UTC, the night before summer time ends
    starts = coming([weekly], count=2, now=before_winter)
    assert [(each.local, each.utc) for each in starts] == [
        ("2026-10-25 03:00:00+01:00", "2026-10-25 02:00:00+00:00"),
        ("2026-11-01 03:00:00+01:00", "2026-11-01 02:00:00+00:00"),
    ]
    assert len(coming([weekly, schedule()], count=7)) == 14
