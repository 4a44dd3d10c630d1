"""Commands as jobs of a real Ray cluster: `ray job submit` typed literally and `submit`, jobs that
are killed and continued, and the scheduler killed at the worst moment.

The first command of a kind does the work, the second one finds it done: that it does not do it
again is part of what is tested.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from components.errors import GATE_REFUSED
from pipelines import cluster_jobs
from tests.conftest import build_tiny_longformer
from tests.ray_cluster import RayCluster, copy_project
from tests.toy import make_documents, make_experiment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 400.0
RATES = {"choice": [0.01, 0.003]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, ray_cluster: RayCluster) -> Path:
    """A copy of the project with toy files in it, whose local cluster is the shared one."""
    folder = tmp_path_factory.mktemp("project")
    copy_project(folder)
    search = {"searcher": "grid", "trial_scheduler": "none", "concurrent_slots": 1}
    values = make_experiment(
        folder,
        build_tiny_longformer(),
        search=search | {"space": {"optimizer.learning_rate": RATES}},
    )
    write(folder / "toy.yaml", values)
    make_documents(folder / "all.jsonl", 60, seed=1)
    write(
        folder / "again.yaml",
        values
        | {"name": "again", "data": {"files": {"train": "all.jsonl"}, "max_tokens": 64}}
        | {"search": search | {"space": {"optimizer.learning_rate": {"choice": [0.01]}}}},
    )
    write(folder / "weekly.yaml", {"name": "weekly", "experiment": "again.yaml"})
    method = {"method": "prefix_propagation", "prefix_length": 4, "dropout": 0.0}
    comparison = {
        "name": "compared",
        "base": {name: values[name] for name in ("backbone", "head", "training", "zero")},
        "tasks": {"words": {"data": values["data"]}},
        "methods": {
            name: {"adapter": adapter, "points": [{"optimizer.learning_rate": 0.01}]}
            for name, adapter in (("propagation", method), ("head", {"method": "head_only"}))
        },
        "search": {"points": 1, "seed": 1},
        "seeds": [1, 2],
        "resamples": 200,
        "cluster": values["cluster"],
    }
    write(folder / "compared.yaml", comparison)
    state = {
        "ray_address": ray_cluster.address,
        "jobs_address": ray_cluster.jobs_address,
        "tracking_uri": f"sqlite:///{folder}/mlflow.db",
        "environment": {},
    }
    (folder / ".prefixprop").mkdir()
    (folder / ".prefixprop" / "cluster.json").write_text(json.dumps(state))
    return folder


def write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(values, sort_keys=False))


def environment(folder: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "MLFLOW_", "PREFIXPROP_"))
    }
    return kept | {
        "RAY_AUTH_MODE": "disabled",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "HF_HUB_OFFLINE": "1",
    }


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        list(words),
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def prefixprop(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return start(folder, sys.executable, "-m", "pipelines.cli", *words)


def ended(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    return said


@pytest.mark.parametrize(
    ("words", "first", "then"),
    [
        (["search", "toy.yaml"], "registered", "registered"),
        (["retrain", "weekly.yaml"], "promoted", "nothing to do"),
        (["compare", "compared.yaml", "--output", "results"], "propagation", "propagation"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_runs_by_ray_job_submit_and_by_submit(
    words: list[str], first: str, then: str, project: Path, ray_cluster: RayCluster
) -> None:
    variables = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "PREFIXPROP_HOME": str(project),  # `prefixprop up` gives it to every job
    }
    ray = str(Path(sys.executable).parent / "ray")
    typed = [ray, "job", "submit", "--address", ray_cluster.jobs_address, "--working-dir", "."]
    typed += ["--runtime-env-json", json.dumps({"env_vars": variables})]
    literally = start(project, *typed, "--", "python", "-m", "pipelines.cli", *words)
    said = ended(literally)
    assert literally.returncode == 0, said[-4000:]
    assert "succeeded" in said and first in said.lower(), said[-4000:]
    again = prefixprop(project, "submit", *words)
    said = ended(again)
    # The second search meets the champion of the first one, and the gate may refuse it.
    expected = {0: "SUCCEEDED"} | ({GATE_REFUSED: "verdict: hold"} if words[0] == "search" else {})
    assert again.returncode in expected, said[-4000:]
    assert expected[again.returncode] in said and then in said.lower(), said[-4000:]
    assert "here and on the cluster; code " in said and "left out: .prefixprop" in said


def wait_for(happened: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()[0][-4000:]
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


def driver(submission_id: str, ray_cluster: RayCluster) -> psutil.Process:
    """The process of the command itself; its forefather is Ray's supervisor of the job."""
    from ray.job_submission import JobSubmissionClient

    info = JobSubmissionClient(ray_cluster.jobs_address).get_job_info(submission_id)
    assert info.driver_info is not None
    return psutil.Process(int(info.driver_info.pid))


def trained(project: Path) -> int:
    """Trials of `killed` that have a checkpoint or are through."""
    return len(list(project.glob("storage/killed/*/trials/*/checkpoint")))


def test_what_was_killed_is_continued_by_the_next_attempt(
    project: Path, ray_cluster: RayCluster
) -> None:
    """Once because the same is typed again, once because its node was lost (to Ray the same as its
    supervisor killed).
    """
    words = ["submit", "search", "toy.yaml", "--set", "name=killed"]
    words += ["--set", "search.reuse_trials=false"]

    def base() -> str:
        (found,) = {
            each.submission_id.rpartition("-")[0]
            for each in cluster_jobs.jobs(ray_cluster.jobs_address)
            if "name=killed" in each.command
        }
        return found

    first = prefixprop(project, *words)
    wait_for(lambda: trained(project) >= 1, first)
    driver(f"{base()}-1", ray_cluster).kill()
    said = ended(first)
    assert first.returncode not in (0, 2, 3), said[-4000:]
    assert [each.name for each in project.glob("storage/killed/*/search.json")] == ["search.json"]

    second = prefixprop(project, *words)
    running = f"{base()}-2"

    def runs() -> bool:
        known = cluster_jobs.jobs(ray_cluster.jobs_address)
        return any(each.submission_id == running and each.status == "RUNNING" for each in known)

    wait_for(runs, second)
    wait_for(lambda: has_driver(running, ray_cluster), second)
    supervisors = [
        each
        for each in driver(running, ray_cluster).parents()
        if "JobSupervisor" in " ".join(each.cmdline())
    ]
    assert len(supervisors) == 1
    supervisors[0].kill()
    said = ended(second)
    assert second.returncode == 0, said[-4000:]
    assert f"The driver of {running} was lost with its node" in said, said[-4000:]
    assert f"It continues what {running} left" in said and "continuing search" in said
    assert len(list(project.glob("storage/killed/*/search.json"))) == 1, "one search all along"
    statuses = {
        each.submission_id.rpartition("-")[2]: each.status
        for each in cluster_jobs.jobs(ray_cluster.jobs_address)
        if each.submission_id.startswith(base())
    }
    assert statuses == {"1": "FAILED", "2": "FAILED", "3": "SUCCEEDED"}


def has_driver(submission_id: str, ray_cluster: RayCluster) -> bool:
    try:
        return driver(submission_id, ray_cluster).is_running()
    except (AssertionError, psutil.NoSuchProcess):
        return False


def test_a_job_is_looked_at_and_ended_from_the_command_line(
    project: Path, ray_cluster: RayCluster
) -> None:
    words = ["search", "toy.yaml", "--set", "name=stopped", "--set", "training.epochs=200"]
    submitted = prefixprop(project, "submit", "--no-wait", *words, "--json")
    report = ended(submitted)
    submission_id = json.loads(report[report.index("{") :])["submission_id"]
    assert submission_id in ended(prefixprop(project, "jobs"))
    stopped = json.loads(ended(prefixprop(project, "jobs", "stop", submission_id, "--json")))
    assert stopped["status"] == "STOPPED"
    told = ended(prefixprop(project, "jobs", "status", submission_id))
    assert "STOPPED" in told and "name=stopped" in told
    assert prefixprop(project, "jobs", "logs", submission_id).wait(timeout=PATIENCE) == 0
    unknown = prefixprop(project, "jobs", "status", "absent-1")
    assert "knows no job 'absent-1'" in ended(unknown) and unknown.returncode == 2


SCHEDULER = """
import sys, time
from pathlib import Path
from pipelines.local_cluster.addresses import Addresses
from pipelines.scheduling import commands
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.schedules import load_schedules
from pipelines.scheduling.state import States

jobs_address, folder, clock, dies = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
states = States(shared_engine(None, folder))
schedules = load_schedules(folder / "schedules.yaml")
states.of(schedules[0].name, now=clock - 3600)
if dies == "before it writes down what it submitted":
    def change(before, after):
        print("submitted", flush=True)
        time.sleep(3600)
    states.change = change
began = time.monotonic()
commands.run(
    states,
    schedules,
    Addresses(None, jobs_address, None),
    say=lambda line: print(line, flush=True),
    now=lambda: clock + time.monotonic() - began,
)
"""


@pytest.mark.parametrize("dies", ["before it writes down what it submitted", "while the job runs"])
def test_a_scheduler_that_is_killed_and_started_again_runs_a_due_job_once(
    dies: str, project: Path, ray_cluster: RayCluster, tmp_path: Path
) -> None:
    """Its clock is the test's: it stands at the minute at which the job is due."""
    name = dies.partition(" ")[0]
    schedule = {
        "name": name,
        "command": ["search", str(project / "toy.yaml"), "--resume", "list"],
        "cron": "0 3 * * *",
        "retries": 0,
    }
    write(tmp_path / "schedules.yaml", {"schedules": [schedule]})
    due = 1764558000  # 2025-12-01 03:00 UTC
    program = [sys.executable, "-c", SCHEDULER, ray_cluster.jobs_address, str(tmp_path), str(due)]

    def says(process: "subprocess.Popen[str]", wanted: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if wanted in line:
                return
        raise AssertionError(f"it never said '{wanted}'")

    first = start(project, *program, dies)
    says(first, "submitted" if name == "before" else f"{name}: started")
    first.kill()
    first.wait()
    second = start(project, *program, "")
    try:
        says(second, f"job {name}-{due}-1: succeeded")
    finally:
        second.kill()
        second.wait()
    found = [
        each
        for each in cluster_jobs.jobs(ray_cluster.jobs_address)
        if each.submission_id.startswith(f"{name}-")
    ]
    assert [(each.submission_id, each.exit_code) for each in found] == [(f"{name}-{due}-1", 0)]
    written: list[str] = []
    cluster_jobs.log(
        ray_cluster.jobs_address, f"{name}-{due}-1", follow=False, write=written.append
    )
    said = "".join(written)
    assert said.count("can be continued") + said.count("unfinished") == 1, said
