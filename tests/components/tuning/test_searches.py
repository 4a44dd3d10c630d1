"""Whole searches on a toy, on one Ray cluster: interrupted, with workers killed, with diverging
trials; every driver is a process of its own.

All searches share their points, so that whatever happens to a trial, its numbers must be those of
the undisturbed search. Not covered here: several nodes, GPUs.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.atomic_file import read_state
from tests.components.training.ranks import run_ranks
from tests.components.tuning.drive import start_driver
from tests.faults.harness import local_cluster
from tests.runs import computed
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
EPOCHS = 16  # long enough to be interrupted in the middle on a busy machine
LEARNING_RATES = (
    1e30,
    1e-2,
    1e-3,
    # the first one diverges: trials 0 and 1 of 6, because Tune's grid varies the prefix length
    # fastest
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster that ends with this module."""
    with local_cluster() as address:
        yield address


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tests.conftest import build_tiny_longformer

    folder = tmp_path_factory.mktemp("toy")
    values = make_experiment(folder, build_tiny_longformer())
    values["training"] |= {"epochs": EPOCHS}
    values["search"] = {
        "searcher": "grid",
        "trial_scheduler": "none",
        "space": {
            "adapter.prefix_length": {"choice": [4, 2]},
            "optimizer.learning_rate": {"choice": list(LEARNING_RATES)},
        },
    }
    return values


@pytest.fixture(scope="module")
def side_by_side(
    cluster: str, toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Reports of the undisturbed search, and of one with ASHA at the same time."""
    folder = tmp_path_factory.mktemp("side_by_side")
    space = {
        "optimizer.learning_rate": {"choice": [1e-2, 1e-5, 1e-6]},
        "adapter.prefix_length": {"choice": [4, 2]},
    }
    search = {
        "searcher": "grid",
        "trial_scheduler": "asha",
        "asha": {"reduction_factor": 2},
        "space": space,
    }
    training = toy["training"] | {"metric": "validation/nll", "mode": "min"}
    experiments = {
        "undisturbed": toy,
        "asha": toy | {"name": "asha", "search": search, "training": training},
    }
    drivers = [
        start_driver(
            folder,
            name,
            address=cluster,
            tracking_uri="memory://",
            values=values | {"registry": {"kind": "memory"}},
        )
        for name, values in experiments.items()
    ]
    return {driver.name: driver.report() for driver in drivers}


@pytest.fixture(scope="module")
def undisturbed(side_by_side: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return side_by_side["undisturbed"]


@pytest.fixture(scope="module")
def disturbed(
    cluster: str, toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A search that is interrupted in the middle of a trial, continued, and then loses its worker
    in the middle of another one.
    """
    folder = tmp_path_factory.mktemp("disturbed")
    values = toy | {"name": "disturbed"}
    where = {"address": cluster, "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    first = start_driver(folder, "disturbed", values=values, **where)
    events = first.wait_for(
        lambda seen: (
            bool(seen)
            and seen[-1]["name"] == "trial-003"
            and seen[-1]["outcome"] == "running"
            and seen[-1]["evaluations"] >= 2
        )
    )
    first.process.send_signal(signal.SIGINT)
    found: dict[str, Any] = {
        "code": first.wait(),
        "log": first.log(),
        "before": by_name(first.events() or events),
    }
    (search,) = (Path(values["cluster"]["storage_path"]) / "disturbed").glob("*/search.json")
    found |= {
        "state": read_state(search),
        "checkpoints before": checkpoints(found["before"]),
    }
    second = start_driver(folder, "disturbed", resume=True, **where)
    second.wait_for(
        lambda seen: bool(seen) and seen[-1]["name"] == "trial-004" and seen[-1]["evaluations"] >= 2
    )
    found["killed"] = kill_worker()
    found |= {
        "report": second.report(),
        "events": second.events(),
        "checkpoints after": checkpoints(found["before"]),
    }
    return found | {"state after": read_state(search)}


def by_name(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last event of every trial."""
    return {event["name"]: event for event in events}


def checkpoints(trials: dict[str, dict[str, Any]]) -> dict[str, tuple[int, dict[str, Any]]]:
    """When each trial's checkpoint was written, and what it says."""
    files = {
        name: Path(trial["folder"]) / "checkpoint" / "state.json" for name, trial in trials.items()
    }
    return {
        name: (file.stat().st_mtime_ns, json.loads(file.read_text()))
        for name, file in files.items()
        if file.exists()
    }


def kill_worker() -> int:
    """SIGKILL the one Ray Train worker below this process; returns its process id."""
    (worker,) = [
        child
        for child in psutil.Process().children(recursive=True)
        if "RayTrainWorker" in " ".join(child.cmdline())
    ]
    worker.kill()
    return int(worker.pid)


def numbers(trial: dict[str, Any]) -> dict[str, Any]:
    """What a trial computed, without its times."""
    metrics = computed(trial["metrics"])
    return {
        "point": trial["point"],
        "outcome": trial["outcome"],
        "step": trial["step"],
        "metrics": metrics,
        "rungs": list(map(tuple, trial["rungs"])),
    }


def test_diverged_trial_ends_with_its_reason_and_the_next_one_is_undisturbed(
    undisturbed: dict[str, Any], toy: dict[str, Any], tmp_path: Path
) -> None:
    trials = undisturbed["trials"]
    after = trials[2]
    assert [trial["outcome"] for trial in trials[:3]] == ["diverged", "diverged", "completed"]
    assert "optimizer.learning_rate" in next(
        trial["reason"] for trial in trials if trial["outcome"] == "diverged"
    )
    alone = json.loads(json.dumps(toy))
    alone["optimizer"]["learning_rate"], alone["adapter"]["prefix_length"] = (
        after["point"]["optimizer.learning_rate"],
        after["point"]["adapter.prefix_length"],
    )
    result = run_ranks(tmp_path / "alone", [{"name": "alone", "values": alone}], size=1)["alone"]
    assert result["losses"][-1] == after["metrics"]["train/loss"]
    assert result["validation"][-1] == after["metrics"]["validation/nll"]


def test_best_trial_is_the_best_evaluation_of_all(undisturbed: dict[str, Any]) -> None:
    completed = [trial for trial in undisturbed["trials"] if trial["outcome"] == "completed"]
    best = max(trial["best_metrics"]["validation/accuracy"] for trial in completed)
    assert undisturbed["metrics"]["validation_all/accuracy"] == best
    assert all(
        trial["step"] == EPOCHS * 6 and trial["evaluations"] == EPOCHS for trial in completed
    )


def test_interrupted_search_says_so_and_can_be_continued(disturbed: dict[str, Any]) -> None:
    assert disturbed["code"] == 130, disturbed["log"]
    assert disturbed["state"]["state"] == "interrupted"
    assert disturbed["before"]["trial-003"]["outcome"] in ("running", "interrupted")
    assert disturbed["state after"] == disturbed["state"] | {"state": "done"}
    assert disturbed["report"]["search_run_id"] == disturbed["state"]["search_run_id"]


def test_completed_trials_are_not_run_again(disturbed: dict[str, Any]) -> None:
    before, after = disturbed["checkpoints before"], disturbed["checkpoints after"]
    completed = [
        name for name, trial in disturbed["before"].items() if trial["outcome"] == "completed"
    ]
    assert completed
    for name in completed:
        assert after[name] == before[name]


def test_interrupted_trial_goes_on_from_its_checkpoint(disturbed: dict[str, Any]) -> None:
    (_, before), (_, after) = (
        disturbed[when]["trial-003"] for when in ("checkpoints before", "checkpoints after")
    )
    assert 0 < before["step"] < after["step"] == EPOCHS * 6
    assert (
        after["history"][: before["evaluations"]] == before["history"]
    )  # times included: these evaluations were not repeated


def test_trials_keep_their_runs_when_a_search_is_continued(disturbed: dict[str, Any]) -> None:
    after = by_name(disturbed["events"])
    assert {name: trial["run_id"] for name, trial in disturbed["before"].items()} == {
        name: after[name]["run_id"] for name in disturbed["before"]
    }


def test_disturbed_search_computes_what_the_undisturbed_one_does(
    disturbed: dict[str, Any], undisturbed: dict[str, Any]
) -> None:
    after = by_name(disturbed["events"])
    assert [numbers(after[trial["name"]]) for trial in undisturbed["trials"]] == [
        numbers(trial) for trial in undisturbed["trials"]
    ]
    assert disturbed["report"]["metrics"] == undisturbed["metrics"]
    assert disturbed["report"]["best_trial"] == undisturbed["best_trial"]


def test_no_search_leaves_a_pickle(disturbed: dict[str, Any], toy: dict[str, Any]) -> None:
    """Nor does one that was interrupted, continued, and lost a worker."""
    files = [each for each in Path(toy["cluster"]["storage_path"]).rglob("*") if each.is_file()]
    assert any(each.suffix == ".safetensors" for each in files)
    for file in files:
        content = file.read_bytes()
        assert content[:1] != b"\x80" and b"CLOUDPICKLE" not in content, file
        assert file.suffix not in {".pkl", ".pickle", ".pt", ".bin"}, file


def test_asha_stops_trials_that_fall_behind(side_by_side: dict[str, dict[str, Any]]) -> None:
    trials = side_by_side["asha"]["trials"]
    assert trials[0]["outcome"] == "completed"
    stopped = [trial for trial in trials if trial["outcome"] == "stopped"]
    assert len(stopped) >= 2
    assert all("asha" in trial["reason"] and trial["evaluations"] < EPOCHS for trial in stopped)


def test_a_search_by_optuna_ends_with_an_adapter(
    cluster: str, toy: dict[str, Any], tmp_path: Path
) -> None:
    """With ASHA, as every searcher; its points are kept in the order in which they were asked."""
    space = {
        "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-1]},
        "adapter.prefix_length": {"integer": [2, 4]},
    }
    search = {"searcher": "optuna", "num_trials": 5, "space": space}
    values = toy | {
        "name": "optuna",
        "search": search,
        "training": toy["training"] | {"epochs": 2},
        "registry": {"kind": "memory"},
    }
    driver = start_driver(
        tmp_path, "optuna", address=cluster, tracking_uri="memory://", values=values
    )
    report = driver.report()
    points = [trial["point"] for trial in report["trials"]]
    assert len({json.dumps(point) for point in points}) == 5
    assert {trial["outcome"] for trial in report["trials"]} <= {"completed", "stopped"}
    (kept,) = (Path(values["cluster"]["storage_path"]) / "optuna").glob("*/points.json")
    assert json.loads(kept.read_text())["points"] == points
    assert report["model_version"] == 1


def test_a_search_without_room_ends_with_a_message_instead_of_waiting_for_ever(
    cluster: str, toy: dict[str, Any], tmp_path: Path
) -> None:
    import ray

    @ray.remote(num_cpus=2)
    class Neighbour:
        def here(self) -> bool:
            return True

    neighbour = Neighbour.remote()
    assert ray.get(neighbour.here.remote())
    values = toy | {
        "name": "crowded",
        "registry": {"kind": "memory"},
        "cluster": toy["cluster"] | {"placement_timeout_seconds": 3},
    }
    driver = start_driver(
        tmp_path, "crowded", address=cluster, tracking_uri="memory://", values=values
    )
    try:
        assert driver.wait() != 0
        assert "could not be started within cluster.placement_timeout_seconds (3 s)" in driver.log()
        assert driver.events() == []
    finally:
        ray.kill(neighbour)
