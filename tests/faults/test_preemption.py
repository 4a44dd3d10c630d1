"""A node that is to be taken away lets its trial go on elsewhere: with a checkpoint, with fewer
ranks, with the same documents in a step, and with all ranks again once there is room.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.components.tuning.drive import Driver, start_driver
from tests.faults import harness

pytestmark = pytest.mark.slow
# Two ranks add up float32 gradients in another order than one does: 18 steps of AdamW.
UP_TO_ROUNDING = 2e-4


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head without CPUs and two nodes of one CPU each, on this machine."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_worker_niceness", "0")
    small = {"object_store_memory": 100 * 1024**2}
    head = small | {"num_cpus": 0, "include_dashboard": True, "dashboard_port": 0}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **small)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def searches(nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same search undisturbed, and with a node drained and another added under way."""
    values = toy(tmp_path_factory.mktemp("toy"))
    quiet = started(tmp_path_factory.mktemp("undisturbed"), values, nodes.address)
    undisturbed = quiet.report()
    driver = started(tmp_path_factory.mktemp("drained"), values, nodes.address)
    harness.in_trial(driver, "trial-000", evaluations=3)
    first = told_pids()
    going = nodes.list_all_nodes()[-1]
    drain(nodes.address, going.node_id)
    harness.until(lambda: len(told_pids() - first) == 1, "no smaller group came")
    alone = told_pids()
    assert len(alone) == 1, "both ranks should have left"
    nodes.remove_node(going)
    nodes.add_node(num_cpus=1, object_store_memory=100 * 1024**2)
    harness.until(lambda: len(told_pids() - alone) == 2, "it did not grow again")
    return {"undisturbed": undisturbed, "drained": driver.report(), "driver": driver}


def toy(folder: Path) -> dict[str, Any]:
    """One trial of 240 steps of two documents a rank."""
    values = harness.toy_search(folder)
    values["training"] |= {"epochs": 400, "micro_batch_size": 2, "evaluations_per_epoch": 1}
    values["search"]["space"] = {"optimizer.learning_rate": {"choice": [1e-3]}}
    values["cluster"] |= {"num_workers": 2, "min_workers": 1, "cpus_per_worker": 1.0}
    return values


def started(folder: Path, values: dict[str, Any], address: str) -> Driver:
    cluster = values["cluster"] | {"storage_path": str(folder / "storage")}
    uri = f"sqlite:///{folder}/mlflow.db"
    settings = values | {"cluster": cluster}
    return start_driver(folder, "toy", values=settings, address=address, tracking_uri=uri)


def told_pids() -> set[int]:
    """Ids of the processes that are ranks now."""
    return {process.pid for process in harness.alive(harness.WORKER)}


def drain(address: str, node_id: str) -> None:
    """What a spot instance's notice comes to: the node goes in 60 seconds."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", address]
    command += ["--node-id", node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "notice", "--deadline-remaining-seconds", "60"]
    subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)


def test_the_numbers_are_those_of_the_undisturbed_search(searches: dict[str, Any]) -> None:
    (left,), (quiet,) = searches["drained"]["trials"], searches["undisturbed"]["trials"]
    assert (left["step"], left["outcome"]) == (quiet["step"], "completed")
    losses = {
        name: [round_["train/loss"] for round_ in trial["history"]]
        for name, trial in (("left", left), ("quiet", quiet))
    }
    assert len(losses["left"]) == len(losses["quiet"])
    assert losses["left"] == pytest.approx(losses["quiet"], abs=UP_TO_ROUNDING)


def test_no_work_was_lost(searches: dict[str, Any]) -> None:
    """A training that leaves its place is no failure, and no flight record is kept of it."""
    folder = Path(searches["driver"].folder)
    assert not list((folder / "storage").rglob("flight_record.json"))
    assert re.search("lost", searches["driver"].log()) is None
