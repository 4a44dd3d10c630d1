"""A scheduler runs three retrainings while it, their driver, a worker, MLflow and the Ray head are
killed at moments that a seed draws: `python -m tests.faults.retrainings [SEED]`.

The first one trains and its version becomes champion; the second has nothing to do; then documents
are added, corrected and removed, and the third trains from the champion and asks the gate. Only the
scheduler's clock is moved. Ends with code 1 where anything is lost, twice, or missing in the
history.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from components.registry import open_tracker
from pipelines.cluster_jobs import ClusterJob, has_ended, jobs
from pipelines.local_cluster import lifecycle
from pipelines.local_cluster.state_file import LocalCluster
from pipelines.retraining.records import Records
from pipelines.scheduling.database import shared_engine
from tests.conftest import build_tiny_longformer
from tests.faults import harness
from tests.runs import against_the_axis
from tests.toy import make_documents, make_experiment

ROOT = Path(__file__).resolve().parents[2]
SCHEDULER, DRIVER, MLFLOW, HEAD = "scheduler", "pipelines.cli retrain", "mlflow", "head"
KINDS = (SCHEDULER, DRIVER, harness.WORKER, MLFLOW, HEAD)
DAY = 86400.0
FEWEST_SECONDS, MOST_SECONDS, NOTHING_TO_DO_SECONDS = 2.0, 25.0, 5.0
RETRAINING_SECONDS = 900.0


@dataclass
class Plant:
    """A folder with everything, its cluster, and the scheduler that runs."""

    folder: Path
    cluster: LocalCluster
    scheduler: "subprocess.Popen[bytes] | None" = None
    killed: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / ".prefixprop"

    @property
    def log(self) -> str:
        return (self.folder / "scheduler.log").read_text()

    def start_scheduler(self) -> None:
        with (self.folder / "scheduler.log").open("ab") as log:
            self.scheduler = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.clocked_scheduler", str(self.folder)],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )

    def end_scheduler(self) -> None:
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def a_day_later(self) -> int:
        """Move the scheduler's clock past its next time; how many retrainings had ended before."""
        before = len(self.ended())
        ahead = float((self.folder / "clock").read_text())
        (self.folder / "clock").write_text(str(ahead + DAY))
        return before

    def ended(self) -> list[str]:
        """What the scheduler has said of jobs that came to an end of their own."""
        return [
            line for line in self.log.splitlines() if line.endswith((": succeeded.", ": refused."))
        ]

    def kill(self, kind: str) -> bool:
        """SIGKILL one of the kind; False where there is none just now."""
        if kind == SCHEDULER:
            self.end_scheduler()
        elif kind in (MLFLOW, HEAD):
            harness.kill_server(self.state, "ray" if kind == HEAD else "mlflow")
        elif found := harness.alive(kind):
            try:
                found[-1].kill()
            except psutil.NoSuchProcess:
                return False
        else:
            return False
        self.killed.append(kind)
        return True

    def bring_back(self, kind: str) -> None:
        """What a person or a service manager does; jobs are the scheduler's affair."""
        time.sleep(3.0)
        if kind in (MLFLOW, HEAD):
            lifecycle.up(self.state)
        if kind == SCHEDULER:
            self.start_scheduler()

    def until_ended(self, before: int, kinds: list[str], draw: random.Random) -> None:
        """Wait for one retraining, killing one of each of `kinds` at drawn moments meanwhile."""
        deadline = time.monotonic() + RETRAINING_SECONDS
        left = list(kinds)
        while len(self.ended()) == before:
            assert time.monotonic() < deadline, self.log
            if left and self.is_running():
                time.sleep(draw.uniform(FEWEST_SECONDS, MOST_SECONDS))
                if len(self.ended()) == before and self.kill(left[0]):
                    print(f"       killed: {left[0]}", flush=True)
                    self.bring_back(left.pop(0))
            time.sleep(0.5)

    def is_running(self) -> bool:
        return bool(harness.alive(DRIVER))

    def jobs(self) -> list[ClusterJob]:
        return list(jobs(self.cluster.jobs_address))


def make(folder: Path) -> None:
    """Documents, experiment, retraining and schedule; the clock as it is."""
    make_documents(folder / "all.jsonl", 96, seed=1)
    search = {
        "searcher": "grid",
        "trial_scheduler": "none",
        "space": {"optimizer.learning_rate": {"choice": [0.01, 0.003]}},
    }
    values = make_experiment(folder, build_tiny_longformer(), name="toy", search=search)
    values["data"]["files"] = {"train": str(folder / "all.jsonl")}
    values["training"] |= {"epochs": 12}
    spec = {
        "name": "weekly",
        "experiment": "toy.yaml",
        "round_champion": {"learning_rate_factors": [0.5, 1.0]},
        "drift": {"text": "fine"},
    }
    schedule = {
        "name": "daily",
        "command": ["retrain", "weekly.yaml"],
        "cron": "0 12 * * *",
        "late_seconds": int(DAY),
        "retries": 10,
        "retry_seconds": 1,
    }
    for name, content in (
        ("toy", values),
        ("weekly", spec),
        ("schedules", {"schedules": [schedule]}),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    # Half past twelve: the test is over long before noon comes by itself.
    (folder / "clock").write_text(str((12.5 * 3600 - time.time()) % DAY))


def change_documents(folder: Path) -> list[str]:
    """Add 24, correct one, remove six; returns the texts that are gone."""
    lines = (folder / "all.jsonl").read_text().splitlines()
    make_documents(folder / "more.jsonl", 24, seed=2)
    corrected = json.loads(lines[5])
    corrected["text"] += " w1"
    kept = [*lines[:5], json.dumps(corrected), *lines[6:90]]
    more = (folder / "more.jsonl").read_text()
    (folder / "all.jsonl").write_text("\n".join(kept) + "\n" + more)
    return [json.loads(line)["text"] for line in lines[90:]]


def main(seed: int) -> int:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make(folder)
        with harness.standing_cluster(folder / ".prefixprop") as cluster:
            plant = Plant(folder, cluster)
            plant.start_scheduler()
            harness.until(lambda: (folder / "scheduler.log").exists(), "no scheduler")
            time.sleep(10.0)  # a new schedule makes up for nothing: it has to have seen now first
            gone: list[str] = []
            for number, kinds in enumerate((KINDS, (), KINDS), start=1):
                order = draw.sample(kinds, len(kinds))
                if number == 3:
                    gone = change_documents(folder)
                started = time.monotonic()
                plant.until_ended(plant.a_day_later(), order, draw)
                print(f"retraining {number}: {time.monotonic() - started:.0f} s", flush=True)
                if number == 2:
                    seconds = seconds_of_nothing(plant)
            plant.end_scheduler()
            found = checks(plant, gone, seconds)
            left = harness.left_behind()
    found["nothing left"] = not left
    for name, holds in found.items():
        print(f"{'yes' if holds else 'NO '}  {name}")
    return 0 if all(found.values()) else 1


def seconds_of_nothing(plant: Plant) -> float:
    """What the command itself took that had nothing to do, the start of its job apart."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "retrain", "weekly.yaml"],
        cwd=plant.folder,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": plant.cluster.tracking_uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "nothing to do" in done.stderr + done.stdout, done.stderr
    return time.monotonic() - started


def checks(plant: Plant, gone: list[str], seconds: float) -> dict[str, bool]:
    """What has to hold in the end."""
    uri = plant.cluster.tracking_uri
    tracker = open_tracker("mlflow", uri)
    entries = tracker.history("toy")
    for entry in entries:
        print(f"       {entry.action} version {entry.version}: {entry.reason}")
    versions = tracker.versions("toy")
    records = Records(shared_engine(uri, plant.state))
    kept = [file.read_text() for file in plant.folder.glob("storage/toy/retraining/**/*.jsonl")]
    actions = [entry.action for entry in entries]
    champion = next(each.version for each in versions if "champion" in each.aliases)
    return {
        "every kind was killed twice": sorted(plant.killed) == sorted([*KINDS, *KINDS]),
        f"nothing to do took {seconds:.1f} s, under 5": seconds < NOTHING_TO_DO_SECONDS,
        "two versions": [each.version for each in versions] == [1, 2],
        "the history tells both": actions[0] == "first"
        and actions[1] in ("promoted", "held", "rejected", "found")
        and len(actions) == 2,
        "the champion is that of the history": entries[-1].champion_after == champion,
        "two retrainings are done": records.count_done("weekly") == 2,
        "nothing twice in MLflow": twice(uri) == [],
        "removed documents are gone": bool(kept)
        and not any(json.dumps(text)[1:-1] in content for text in gone for content in kept),
        "all jobs have ended": all(has_ended(job.status) for job in plant.jobs()),
    }


def twice(tracking_uri: str) -> list[str]:
    """Runs of one name, and metrics with two values at one step or steps that go back."""
    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    experiment = client.get_experiment_by_name("toy")
    names = [
        f"{run.data.tags.get('mlflow.parentRunId', '')} {run.data.tags.get('search_id', '')} "
        f"{run.info.run_name}"
        for run in client.search_runs([experiment.experiment_id])
    ]
    found = [f"two runs {name}" for name in set(names) if names.count(name) > 1]
    found += against_the_axis(client, "toy")
    for line in found:
        print(f"       twice: {line}")
    return found


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:] or ["1"])))
