"""A search that is interrupted, moved and damaged, and one that loses a trial for good, are
continued to what an undisturbed one gives.
"""

import shutil
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components.jobs.repetition import LOSSES_WITHOUT_PROGRESS
from tests.components.tuning.drive import Driver, start_driver
from tests.faults import harness

pytestmark = pytest.mark.slow
INTERRUPTED = (130, -signal.SIGINT)
"""The second one may meet the interpreter as it ends."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two short trials."""
    values = harness.toy_search(tmp_path_factory.mktemp("toy"))
    values["training"] |= {"epochs": 16}
    values["search"]["space"] = {"optimizer.learning_rate": {"choice": [1e-2, 1e-3]}}
    return values


def searched(folder: Path, cluster: str, toy: dict[str, Any], storage: Path) -> dict[str, Any]:
    """What `start_driver` takes."""
    values = toy | {
        "cluster": toy["cluster"]
        | {"storage_path": str(storage), "cache_path": str(folder / "cache")}
    }
    uri = f"sqlite:///{folder}/mlflow.db"
    return {
        "folder": folder,
        "name": "toy",
        "address": cluster,
        "tracking_uri": uri,
        "values": values,
    }


@pytest.fixture(scope="module")
def undisturbed(
    cluster: str, toy: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    where = searched(folder, cluster, toy, folder / "storage")
    return result(start_driver(**where), where["tracking_uri"])


def result(driver: Driver, tracking_uri: str) -> dict[str, Any]:
    outcome = harness.outcome(driver.report())
    return outcome | {"tracked": harness.tracked(tracking_uri, "toy")}


def test_interrupted_twice_moved_and_damaged_it_comes_to_the_same(
    cluster: str, toy: dict[str, Any], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (tmp_path / "storage").symlink_to(here)  # the setting stays, the place does not
    where = searched(tmp_path, cluster, toy, tmp_path / "storage")
    driver = start_driver(**where)
    harness.in_trial(driver, "trial-001", evaluations=4)
    for _ in range(2):
        driver.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    assert driver.wait() in INTERRUPTED, driver.log()
    statuses = {
        name: run["status"]
        for name, run in harness.tracked(where["tracking_uri"], "toy")["runs"].items()
    }
    assert "RUNNING" not in statuses.values(), statuses

    shutil.move(here, there)
    (tmp_path / "storage").unlink()
    (tmp_path / "storage").symlink_to(there)
    checkpoints = [*there.glob("toy/*/trials/*/checkpoint/**/*.safetensors")]
    assert checkpoints
    for file in (*checkpoints, *(tmp_path / "cache").glob("*/train.arrow")):
        harness.flip_a_bit(file)
    second = start_driver(**where, resume=True)
    harness.said(second, "evaluating the best adapter")
    second.process.send_signal(signal.SIGINT)
    assert second.wait() in INTERRUPTED, second.log()
    best = undisturbed["best_trial"]
    assert harness.search_tags(where["tracking_uri"], "toy")["best_trial"] == best
    resumed = start_driver(**where, resume=True)
    assert harness.differences(result(resumed, where["tracking_uri"]), undisturbed) == []
    assert not here.exists(), "nothing is written into the old place"
    assert harness.twice(harness.tracked(where["tracking_uri"], "toy")) == []


def test_a_trial_that_is_lost_for_good_leaves_no_champion_and_is_run_by_resume(
    cluster: str, toy: dict[str, Any], undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    where = searched(tmp_path, cluster, toy, tmp_path / "storage")
    driver = start_driver(**where)
    harness.in_trial(driver, "trial-000", evaluations=2)
    for _ in range(LOSSES_WITHOUT_PROGRESS + 1):
        killed = harness.kill(harness.WORKER)
        harness.until(partial(replaced_or_lost, driver, killed), "no other worker came")
        if trial_lost(driver):
            break
    assert driver.wait() == 1
    assert "1 of 2 trials of 'toy' were lost with their workers" in driver.log()
    assert "nothing is registered" in driver.log()
    assert harness.tracked(where["tracking_uri"], "toy")["versions"] == 0
    resumed = start_driver(**where, resume=True)
    assert harness.differences(result(resumed, where["tracking_uri"]), undisturbed) == []


def replaced_or_lost(driver: Driver, killed: int) -> bool:
    return trial_lost(driver) or any(each.pid != killed for each in harness.alive(harness.WORKER))


def trial_lost(driver: Driver) -> bool:
    return any(
        event["name"] == "trial-000" and event["outcome"] == "lost" for event in driver.events()
    )
