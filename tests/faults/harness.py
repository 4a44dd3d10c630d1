"""Faults caused for real on a tiny search: processes of a local Ray cluster are killed or stopped
by their ids, and what came of the search is compared with what an undisturbed one gives.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pipelines.local_cluster import lifecycle, marked_processes
from pipelines.local_cluster.access import mlflow_credentials
from pipelines.local_cluster.state_file import LocalCluster
from tests.components.tuning.drive import Driver
from tests.runs import against_the_axis, computed, of_the_machine

WORKER, CONTROLLER, SLOT, TUNE = "RayTrainWorker", "TrainController", "ray::Slot", "TuneTrial"
CLEANER = "Cleaner"
KINDS = (WORKER, CONTROLLER, SLOT, TUNE, CLEANER)
BUSY_SECONDS = 200


@contextmanager
def local_cluster(cpus: int = 2) -> Iterator[str]:
    """Address of a cluster whose processes are children of this one."""
    import ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    # Else Ray's workers wait for every other process of a busy machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    options = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "log_to_driver": False}
    for tries_left in reversed(range(4)):
        try:
            context = ray.init(address="local", num_cpus=cpus, logging_level="ERROR", **options)
            break
        except Exception:  # Ray gives a busy machine 30 seconds
            ray.shutdown()
            if not tries_left:
                raise
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


STANDING: list[Path] = []
"""State folders of the clusters that `standing_cluster` has up."""


@contextmanager
def standing_cluster(state: Path) -> Iterator[LocalCluster]:
    """What `prefixprop up` starts, Ray head and MLflow, each of which may be killed."""
    os.environ.setdefault("RAY_worker_niceness", "0")
    cluster = lifecycle.up(state)
    os.environ.update(cluster.environment | mlflow_credentials(state))
    STANDING.append(state)
    try:
        yield cluster
    finally:
        STANDING.remove(state)
        lifecycle.down(state)


def kill_server(state: Path, name: str) -> int:
    """SIGKILL every process of one server of a standing cluster; returns the first one's id."""
    mark = marked_processes.folder_mark(state)
    found = marked_processes.members(mark, name)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return int(found[0].pid)


def of_clusters() -> list[psutil.Process]:
    """All processes of this one's cluster and of the standing ones."""
    marks = [marked_processes.folder_mark(state) for state in STANDING]
    standing = [each for mark in marks for each in marked_processes.members(mark)]
    return [*psutil.Process().children(recursive=True), *standing]


def processes(kind: str) -> list[psutil.Process]:
    """The clusters' processes of a kind, oldest first."""
    found = []
    for child in of_clusters():
        try:
            if kind in " ".join(child.cmdline()):
                found.append((child.create_time(), child))
        except psutil.Error:
            continue
    return [
        child
        for _, child in sorted(
            {each.pid: (at, each) for at, each in found}.values(), key=lambda each: each[0]
        )
    ]


def wait_for_one(kind: str) -> psutil.Process:
    """A process of the kind, as soon as there is one."""
    return until(lambda: next(iter(processes(kind)), None), f"no {kind}")


def until(asked: Callable[[], Any], failing: str, *, seconds: float = BUSY_SECONDS) -> Any:
    """What `asked` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := asked()):
        assert time.monotonic() < deadline, failing
        time.sleep(0.05)
    return found


def kill(kind: str) -> int:
    """SIGKILL one process of the kind; returns its id."""
    process = wait_for_one(kind)
    process.kill()
    return int(process.pid)


def stop(kind: str) -> int:
    """SIGSTOP one process of the kind: it is there and does nothing."""
    process = wait_for_one(kind)
    process.send_signal(signal.SIGSTOP)
    return int(process.pid)


def seconds_until_replaced(kind: str, pid: int) -> float:
    """Time until another process of the kind runs in the place of the one that was killed."""
    started = time.monotonic()
    until(lambda: any(each.pid != pid for each in alive(kind)), f"no other {kind} came")
    return time.monotonic() - started


def is_over(pid: int) -> bool:
    """Whether a process is gone, or only its parent has not noticed yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def flip_a_bit(file: Path) -> None:
    """Change one bit in the middle of a file, as a failing disk does."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def in_trial(driver: Driver, name: str, *, evaluations: int) -> None:
    """Return when the trial has told so many evaluations."""

    def told(events: list[dict[str, Any]]) -> bool:
        return any(
            event["name"] == name and event["evaluations"] >= evaluations for event in events
        )

    driver.wait_for(told)


def said(driver: Driver, text: str) -> None:
    """Return when the driver's output holds the text."""
    file = driver.folder / f"{driver.name}.log"
    until(lambda: text in file.read_text(), f"{driver.name} never said {text!r}")


def numbers(trial: dict[str, Any]) -> dict[str, Any]:
    """What a trial computed, without its times, its run and its folder."""
    kept = {"name", "point", "outcome", "step", "rungs", "best_evaluation", "evaluations"}
    return {name: trial[name] for name in kept} | {
        name: computed(trial[name]) for name in ("metrics", "best_metrics")
    }


def outcome(report: dict[str, Any]) -> dict[str, Any]:
    """What a search computed."""
    trials = sorted((numbers(trial) for trial in report["trials"]), key=lambda each: each["name"])
    names = ("metrics", "best_trial", "lost_trials", "model_version", "model_alias", "calibration")
    return {"trials": trials} | {name: report[name] for name in names}


def tracked(tracking_uri: str, experiment: str) -> dict[str, Any]:
    """What MLflow keeps of an experiment: runs by name, with every metric's steps and values."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = {}
    for run in client.search_runs([found.experiment_id]):
        metrics = {
            name: sorted(
                (point.step, point.value)
                for point in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
            if not of_the_machine(name)
        }
        kind = run.data.tags.get("kind", "")
        name = "search" if kind == "search" else str(run.info.run_name)
        assert name not in runs, f"two runs are called {name}"
        runs[name] = {"status": run.info.status, "metrics": metrics}
    return {
        "runs": runs,
        "against the axis": against_the_axis(client, experiment),
        "versions": len(client.search_model_versions(f"name = '{experiment}'")),
    }


def search_tags(tracking_uri: str, experiment: str) -> dict[str, str]:
    """The tags of the experiment's one search."""
    from components.registry import open_tracker

    tracker = open_tracker("mlflow", tracking_uri)
    run_id = tracker.find_run(experiment, {"kind": "search"})
    assert run_id is not None
    return tracker.run_tags(run_id)


def twice(found: dict[str, Any]) -> list[str]:
    """Metrics that have two values at one step, or go back."""
    lines: list[str] = found["against the axis"]
    return lines


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested values differ, in words."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = {*one, *other}
        return [
            line
            for name in sorted(map(str, names))
            for line in differences(one.get(name), other.get(name), f"{where}/{name}")
        ]
    return [] if one == other else [f"{where}: {str(one)[:200]} | {str(other)[:200]}"]


def left_behind() -> list[str]:
    """Processes of a search that are still there though it ended, after the time to end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        left = [" ".join(process.cmdline()) for kind in KINDS for process in alive(kind)]
        if not left:
            return []
        time.sleep(0.5)
    return left


def alive(kind: str) -> list[psutil.Process]:
    return [each for each in processes(kind) if each.status() != psutil.STATUS_ZOMBIE]


def toy_search(folder: Path, **changes: Any) -> dict[str, Any]:
    """An experiment of four short trials in a grid."""
    from tests.conftest import build_tiny_longformer
    from tests.toy import make_experiment

    values = make_experiment(folder, build_tiny_longformer(), **changes)
    values["training"] |= {"epochs": 24}
    values["search"] = {
        "searcher": "grid",
        "trial_scheduler": "none",
        "reuse_trials": False,
        "space": {
            "adapter.prefix_length": {"choice": [4, 2]},
            "optimizer.learning_rate": {"choice": [1e-2, 1e-3]},
        },
    }
    return values
