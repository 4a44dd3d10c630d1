"""A node that is to be taken away lets its trial go on elsewhere: with a checkpoint, with fewer
ranks, with the same documents in a step, and with all ranks again once there is room.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.components.tuning.drive import Driver, start_driver
from tests.faults import harness
from tests.faults.nodes import BUSY, Nodes, nodes_of_a_cluster

pytestmark = pytest.mark.slow
# Two ranks add up float32 gradients in another order than one does: 18 steps of AdamW.
UP_TO_ROUNDING = 2e-4


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with nodes_of_a_cluster() as found:
        yield found


@pytest.fixture(scope="module")
def searches(nodes: Nodes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same search undisturbed, and with a node drained and another added under way."""
    values, going = toy(tmp_path_factory.mktemp("toy")), nodes.add()
    quiet = started(tmp_path_factory.mktemp("undisturbed"), values, nodes.address)
    assert quiet.process.wait(BUSY) == 0, quiet.log()
    undisturbed = quiet.report()
    driver = started(tmp_path_factory.mktemp("drained"), values, nodes.address)
    harness.until(lambda: told_evaluations(driver) >= 3, "it did not begin", seconds=BUSY)
    first = ranks()
    with paused(first):  # so that the toy is not over before it hears of it
        nodes.drain(going)
        logged(driver, "about to be taken away")
    alone = harness.until(lambda: ranks() - first, "no smaller group came", seconds=BUSY)
    assert len(alone) == 1, "both ranks should have left"
    harness.until(lambda: "began" in since(driver, alone), "it did not go on", seconds=BUSY)
    with paused(alone):
        nodes.remove(going)
        nodes.add()
        logged(driver, "there is room for 2 workers again")
    harness.until(lambda: len(ranks() - alone) == 2, "it did not grow again", seconds=BUSY)
    assert driver.process.wait(BUSY) == 0, driver.log()
    return {"undisturbed": undisturbed, "drained": driver.report(), "driver": driver}


def toy(folder: Path) -> dict[str, Any]:
    """One trial of 144 steps of two documents a rank."""
    values = harness.toy_search(folder)
    values["training"] |= {"epochs": 24, "micro_batch_size": 2}
    values["search"]["space"] = {"optimizer.learning_rate": {"choice": [1e-3]}}
    values["cluster"] |= {"num_workers": 2, "min_workers": 1, "cpus_per_worker": 1.0}
    values["cluster"]["progress_timeout_seconds"] = 900  # ranks are paused, and hang not
    return values


def started(folder: Path, values: dict[str, Any], address: str) -> Driver:
    cluster = values["cluster"] | {"storage_path": str(folder / "storage")}
    uri = f"sqlite:///{folder}/mlflow.db"
    settings = values | {"cluster": cluster}
    return start_driver(folder, "toy", values=settings, address=address, tracking_uri=uri)


def told_evaluations(driver: Driver) -> int:
    """Of its one trial, so far."""
    return max((event["evaluations"] for event in driver.events()), default=0)


def ranks() -> set[int]:
    """Ids of the processes that are ranks now."""
    return {process.pid for process in harness.alive(harness.WORKER)}


@contextmanager
def paused(pids: set[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def lines(driver: Driver, *, process: str) -> list[dict[str, Any]]:
    """What processes of this kind have logged, in the order of time."""
    files = Path(driver.folder).glob(f"storage/toy/*/logs/{process}-*.jsonl")
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(found, key=lambda each: each["time"])


def logged(driver: Driver, reason: str) -> None:
    """Return when the slot has told its workers to leave for this reason."""

    def told() -> bool:
        leaving = [each for each in lines(driver, process="slot") if "to leave" in each["event"]]
        return any(reason in each["reason"] for each in leaving)

    harness.until(told, f"the slot did not say: {reason}", seconds=BUSY)


def since(driver: Driver, pids: set[int]) -> set[str]:
    """Events that these ranks have logged."""
    found: set[str] = set()
    for pid in pids:
        for file in Path(driver.folder).glob(f"storage/toy/*/logs/rank*-{pid}.jsonl"):
            found |= {json.loads(line)["event"] for line in file.read_text().splitlines()}
    return found


def test_the_numbers_are_those_of_the_undisturbed_search(searches: dict[str, Any]) -> None:
    (left,), (quiet,) = searches["drained"]["trials"], searches["undisturbed"]["trials"]
    assert (left["step"], left["outcome"]) == (quiet["step"], "completed")
    assert len(left["rungs"]) == len(quiet["rungs"]) == 24
    for one, other in zip(left["rungs"], quiet["rungs"], strict=True):
        assert one == pytest.approx(other, abs=UP_TO_ROUNDING)
    for name in ("train/loss", "validation/nll"):
        assert left["metrics"][name] == pytest.approx(quiet["metrics"][name], abs=UP_TO_ROUNDING)


def test_leaving_is_no_failure(searches: dict[str, Any]) -> None:
    driver: Driver = searches["driver"]
    assert not list(Path(driver.folder).rglob("flight_record.json"))
    assert [
        each for each in lines(driver, process="slot") if each["event"] == "workers ended"
    ] == []
    left = [each for each in lines(driver, process="rank0") if each["event"] == "left"]
    assert [each["step"] for each in left] == sorted(each["step"] for each in left)
    assert len(left) == 2
