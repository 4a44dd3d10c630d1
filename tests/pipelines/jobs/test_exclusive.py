"""One retraining and one promotion at a time, with real processes that are killed and paused, on
sqlite and on PostgreSQL. Lease, records and documents are the real ones; a second of sleep stands
for the search, and a line on stdin for the gate's work.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine

from components.inference.package import adapter_package
from components.registry import open_tracker
from pipelines.promote import history
from pipelines.retraining.records import Records
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.lease import LeaseHeld, take
from pipelines.scheduling.state import States
from tests.toy import make_documents

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
LEASE_SECONDS = 3.0
START = 1764547200.0  # 2025-12-01 00:00 UTC
PATIENCE = 240.0  # a process of these starts in 3 s on an idle core
RETRAIN = """
import os, sys, time
from pathlib import Path
from components.config.retraining import load_retraining
from components.errors import ClusterError
from pipelines.experiments import load_experiment
from pipelines.retraining import retrain as module
from pipelines.scheduling import lease

folder, database, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
lease.SECONDS = float(sys.argv[4])

def search(work, run_id):
    with (folder / "trained").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(seconds)
    work.lease.check()
    work.records.end(work.record.key, "done", {})
    return module.RetrainReport("weekly", "promoted", "better", 0.0)

module.carry_out = search
try:
    spec = load_retraining(folder / "weekly.yaml")
    config = load_experiment(spec.experiment, spec.overrides)
    report = module.retrain(spec, config, tracking_uri=database, state_path=folder)
except ClusterError as error:
    sys.exit(str(error))
print(report.status)
"""
SCHEDULER = """
import os, subprocess, sys, time
from pathlib import Path
from pipelines.scheduling import scheduler
from pipelines.scheduling.database import shared_engine
from pipelines.scheduling.schedules import load_schedules
from pipelines.scheduling.state import States

folder, database, start, retrain = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), sys.argv[4:]

class Processes:
    # Takes an id once, as a Ray cluster does.
    def start(self, command, *, submission_id):
        try:
            (folder / submission_id).touch(exist_ok=False)
        except FileExistsError:
            return
        code = folder / f"{submission_id}.code"
        line = '"$@"; echo $? > "$0.part"; mv "$0.part" "$0"'
        subprocess.Popen(["sh", "-c", line, code, *retrain])

    def status(self, submission_id):
        code = folder / f"{submission_id}.code"
        if not code.exists():
            return "running"
        return "succeeded" if code.read_text() == "0\\n" else "failed"

began = time.monotonic()
scheduler.run(
    load_schedules(folder / "schedules.yaml"),
    States(shared_engine(database, folder)),
    Processes(),
    say=lambda line: print(line, flush=True),
    now=lambda: start + 3600 + time.monotonic() - began,
    sleep=lambda _: time.sleep(0.2),
)
"""
PROMOTE = """
import sys
from pathlib import Path
from pipelines import promote as module
from pipelines.scheduling import lease

tracking_uri, model, folder = sys.argv[1:4]
lease.SECONDS = float(sys.argv[4])
contest_of = module.contest_of

def slowly(*arguments):
    found = contest_of(*arguments)
    print("deciding", flush=True)
    sys.stdin.readline()
    return found

module.contest_of = slowly
try:
    module.promote(
        model, tracking_uri=tracking_uri, force=True, reason="late", state_path=Path(folder)
    )
    print("promoted", flush=True)
except lease.LeaseLost:
    print("lost", flush=True)
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(shared_database: str | None) -> Iterator[Start]:
    """Starts a program; what still runs at the end is killed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    if shared_database is not None:
        environment["PREFIXPROP_DATABASE"] = shared_database
    with ExitStack() as ended:

        def run(program: str, *arguments: object) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-c", program, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            ended.callback(process.wait)
            ended.callback(process.kill)
            return process

        yield run


@pytest.fixture
def engine(shared_database: str | None, tmp_path: Path) -> Engine:
    make_documents(tmp_path / "all.jsonl", 60, seed=1)
    backbone = {
        "source": "installed",
        "name_or_path": "all-MiniLM-L6-v2",
        "family": "longformer",
        "lengthen_to": 512,
        "attention_window": 128,
    }
    experiment = {
        "name": "toy",
        "backbone": backbone,
        "data": {"files": {"train": str(tmp_path / "all.jsonl")}, "max_tokens": 64},
        "registry": {"kind": "memory"},
        "cluster": {"storage_path": str(tmp_path / "storage")},
    }
    schedule = {
        "name": "hourly",
        "command": ["retrain", "weekly.yaml"],
        "cron": "0 * * * *",
        "late_seconds": 3000,
        "retries": 5,
        "retry_seconds": 1,
    }
    for name, values in {
        "toy": experiment,
        "weekly": {"name": "weekly", "experiment": "toy.yaml"},
        "schedules": {"schedules": [schedule]},
    }.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return shared_engine(shared_database, tmp_path)


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


def trained(folder: Path) -> int:
    """How many searches began."""
    file = folder / "trained"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_two_schedulers_and_a_third_by_hand_retrain_once(
    start: Start, engine: Engine, shared_database: str | None, tmp_path: Path
) -> None:
    states, database = States(engine), shared_database or "memory://"
    states.of("hourly", now=START)
    by_hand = (RETRAIN, tmp_path, database, 1.0, LEASE_SECONDS)
    job = (sys.executable, "-c", *by_hand)
    for _ in range(2):
        start(SCHEDULER, tmp_path, database, START, *job)
    third = start(*by_hand)
    said, error = third.communicate(timeout=PATIENCE)
    assert said in ("promoted\n", "nothing to do\n") or "is held by" in error, error

    def ended() -> bool:
        now = states.of("hourly", now=START)
        return now.attempt > 0 and not now.submission_id and now.retry_at is None

    wait_for(ended)
    assert trained(tmp_path) == 1
    codes = [path.read_text() for path in sorted(tmp_path.glob("hourly-*.code"))]
    assert codes[-1] == "0\n", "a job that found the lease held is started again, then has nothing"
    done = Records(engine).last_done("weekly")
    assert done is not None and done.status == "done"


def test_a_killed_holders_lease_is_taken_over_within_its_expiry(
    start: Start, engine: Engine, shared_database: str | None, tmp_path: Path
) -> None:
    program = (RETRAIN, tmp_path, shared_database or "memory://")
    first = start(*program, PATIENCE, LEASE_SECONDS)
    wait_for(lambda: trained(tmp_path) == 1)
    with pytest.raises(LeaseHeld):
        take(engine, "retrain weekly")
    first.kill()
    first.wait()
    killed, lease = time.monotonic(), None
    while lease is None:
        try:
            lease = take(engine, "retrain weekly")
        except LeaseHeld:
            # a margin for the last renewal that was on its way, and for a busy machine
            assert time.monotonic() - killed < LEASE_SECONDS + 3
            time.sleep(0.05)
    lease.release()
    said, error = start(*program, 0.1, LEASE_SECONDS).communicate(timeout=PATIENCE)
    assert said == "promoted\n", error
    assert trained(tmp_path) == 2
    said, error = start(*program, 0.1, LEASE_SECONDS).communicate(timeout=PATIENCE)
    assert said.splitlines()[-1] == "nothing to do", error


def test_a_holder_that_is_paused_past_its_lease_promotes_nothing(
    start: Start, engine: Engine, mlflow_uri: str, plain_adapter: Path, tmp_path: Path
) -> None:
    model = f"paused-{engine.dialect.name}"
    tracker = open_tracker("mlflow", mlflow_uri)
    tracker.ensure_experiment(model, "")
    for version in range(2):
        run = tracker.start_run(model, run_name=f"s{version}", config={}, params={}, tags={})
        tracker.register_adapter(
            run,
            adapter_folder=plain_adapter,
            package=adapter_package(plain_adapter),
            model_name=model,
            metrics={},
            params={},
            description="",
            tags={},
        )
    process = start(PROMOTE, mlflow_uri, model, tmp_path, LEASE_SECONDS)
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "deciding\n"
    with pytest.raises(LeaseHeld):
        take(engine, f"promote {model}")
    process.send_signal(signal.SIGSTOP)

    def free() -> bool:
        try:
            take(engine, f"promote {model}", seconds=0.0)
        except LeaseHeld:
            return False
        return True

    wait_for(free)
    process.send_signal(signal.SIGCONT)
    said, error = process.communicate("\n", timeout=PATIENCE)
    assert said == "lost\n", error
    assert tracker.resolve(f"models:/{model}@champion").version == 1
    assert [each.action for each in history(model, tracking_uri=mlflow_uri).entries] == ["found"]
