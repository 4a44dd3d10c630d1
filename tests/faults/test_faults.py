"""One search that loses its slot, its workers, its controller, Tune's actor and its evaluation is
the search that nothing happened to; and what cannot be mended is said in a line.
"""

import time
from pathlib import Path
from typing import Any

import pytest

from components.tuning.search_folder import searches
from tests.components.tuning.drive import start_driver
from tests.faults import harness

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    values = harness.toy_search(tmp_path_factory.mktemp("toy"))
    values["cluster"]["progress_timeout_seconds"] = 30
    return values


@pytest.fixture(scope="module")
def undisturbed(
    cluster: str, toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    where = {"address": cluster, "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    report = start_driver(folder, "toy", values=toy, **where).report()
    return {"report": report, "tracked": harness.tracked(where["tracking_uri"], "toy")}


@pytest.fixture(scope="module")
def disturbed(
    cluster: str, toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """One search with a fault in each trial, and one in its last evaluation."""
    folder = tmp_path_factory.mktemp("disturbed")
    storage = {"cluster": toy["cluster"] | {"storage_path": str(folder / "storage")}}
    where = {"address": cluster, "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
    driver = start_driver(folder, "toy", values=toy | storage, **where)
    seconds: dict[str, float] = {}

    def fault(kind: str, *, trial: str, evaluations: int) -> None:
        harness.in_trial(driver, trial, evaluations=evaluations)
        killed = harness.kill(kind)
        seconds[f"{kind} in {trial}"] = harness.seconds_until_replaced(kind, killed)

    fault(harness.SLOT, trial="trial-000", evaluations=2)
    for evaluations in (3, 5, 7):  # more often than max_failures
        fault(harness.WORKER, trial="trial-001", evaluations=evaluations)
    fault(harness.CONTROLLER, trial="trial-002", evaluations=2)
    fault(harness.TUNE, trial="trial-003", evaluations=2)
    harness.in_trial(driver, "trial-003", evaluations=5)
    hanging, started = harness.stop(harness.WORKER), time.monotonic()
    harness.until(lambda: harness.is_over(hanging), "the worker that hangs was not ended")
    seconds["a worker that hangs, until it is ended"] = time.monotonic() - started
    harness.said(driver, "evaluating the best adapter")
    harness.kill(harness.WORKER)
    report = driver.report()
    found = harness.tracked(where["tracking_uri"], "toy")
    (stacks,) = (folder / "storage").glob("toy/*/slots/stacks-*.txt")
    print({name: round(value, 1) for name, value in seconds.items()})
    return {"report": report, "tracked": found, "stacks": stacks.read_text()}


def test_whatever_died_the_search_computes_the_same(
    disturbed: dict[str, Any], undisturbed: dict[str, Any]
) -> None:
    assert harness.outcome(disturbed["report"]) == harness.outcome(undisturbed["report"])
    assert disturbed["report"]["lost_trials"] == []


def test_nothing_is_written_twice(disturbed: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    assert harness.twice(disturbed["tracked"]) == []
    assert disturbed["tracked"] == undisturbed["tracked"]
    assert disturbed["tracked"]["versions"] == 1


def test_nothing_is_left_behind(disturbed: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    assert harness.left_behind() == []


def test_of_a_worker_that_was_stopped_the_system_is_asked(disturbed: dict[str, Any]) -> None:
    assert "T (stopped)" in disturbed["stacks"] and "is silent since" in disturbed["stacks"]


def test_a_driver_that_died_after_it_registered_registers_nothing_again(
    cluster: str, toy: dict[str, Any], tmp_path: Path
) -> None:
    """Beside it: the driver that comes second while the first one runs is told so at once."""
    point = {"optimizer.learning_rate": {"choice": [1e-2]}}
    values = toy | {
        "name": "once",
        "training": toy["training"] | {"epochs": 2},
        "search": toy["search"] | {"space": point},
    }
    where: dict[str, Any] = {"address": cluster, "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
    first = start_driver(tmp_path, "once", values=values, **where)
    harness.said(first, "search run")
    (tmp_path / "second").mkdir()
    second = start_driver(tmp_path / "second", "once", values=values, **where)
    assert second.wait() != 0
    assert f"process {first.process.pid} of" in second.log() and "still runs" in second.log()
    harness.said(first, "registered once version 1")
    first.process.kill()
    first.process.wait()
    # The toy may have come to its end first: this is what a kill a moment before leaves.
    (search,) = searches(Path(toy["cluster"]["storage_path"]), "once")
    search.ended("running").save()
    report = start_driver(tmp_path, "once", resume=True, **where).report()
    found = harness.tracked(where["tracking_uri"], "once")
    assert (report["model_version"], report["model_alias"]) == (1, "champion")
    assert found["versions"] == 1 and harness.twice(found) == []
    assert len(found["runs"]) == 2
    assert {run["status"] for run in found["runs"].values()} == {"FINISHED"}
    assert harness.left_behind() == []
