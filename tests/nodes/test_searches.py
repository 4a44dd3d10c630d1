"""A search over nodes is the search on one node, whatever happens to nodes meanwhile."""

import os
import time
from typing import Any

import psutil
import pytest

from tests.components.tuning.drive import Driver
from tests.faults.harness import differences, in_trial
from tests.nodes.network import Machine, why_not_slow
from tests.nodes.ray_nodes import RayNodes
from tests.nodes.searches import machines_with_workers, result, two_rank_search

pytestmark = pytest.mark.slow
CUT_SECONDS = 60


@pytest.mark.parametrize("stage", [2, 3])
def test_a_search_over_two_nodes_is_the_one_on_one_node(cluster: RayNodes, stage: int) -> None:
    drivers = {
        where: cluster.drive(
            f"zero{stage}-{where}",
            two_rank_search(
                cluster,
                name=f"zero{stage}-{where}",
                **{"cluster.placement": where, "zero.stage": stage},
            ),
        )
        for where in ("spread", "one_node")
    }
    found = {}
    for where, driver in drivers.items():
        driver.wait_for(lambda events: any(event["evaluations"] for event in events))
        found[where] = machines_with_workers(cluster)
    results = {where: result(cluster, driver.report()) for where, driver in drivers.items()}
    assert 1 in found["spread"].values(), found  # the two searches side by side
    assert differences(results["spread"], results["one_node"]) == []


def test_a_slow_network_that_loses_packets_changes_no_number(cluster: RayNodes) -> None:
    if reason := why_not_slow():
        pytest.skip(reason)
    found = []
    for where in ("one_node", "spread"):
        values = two_rank_search(cluster, name=f"slow-{where}", **{"cluster.placement": where})
        with cluster.network.slowed(delay_milliseconds=20, loss_percent=1):
            found.append(result(cluster, cluster.drive(f"slow-{where}", values).report()))
    assert differences(*found) == []


def test_nothing_of_it_listens_outside(cluster: RayNodes) -> None:
    own = os.readlink("/proc/self/ns/net")
    outside = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if str(cluster.folder) in command and os.readlink(f"/proc/{process.pid}/ns/net") == own:
                outside.append(command)
        except (psutil.Error, OSError):
            continue  # it ended meanwhile
    # What stands with one foot outside waits for what it started inside, and opens nothing.
    assert [command for command in outside if not command.startswith("nsenter ")] == []


def test_a_folder_that_is_not_shared_is_named_before_anything_starts(cluster: RayNodes) -> None:
    hidden = cluster.shared / "hidden"
    hidden.mkdir()
    _, blind, _ = (node.machine for node in cluster.nodes)
    blind.hide(hidden)
    for setting in ("storage_path", "cache_path"):
        values = two_rank_search(cluster, name=f"blind-{setting}")
        values["cluster"][setting] = str(hidden)
        driver = cluster.drive(f"blind-{setting}", values)
        assert driver.wait() != 0
        assert (
            f"ConfigError: cluster.{setting}: '{hidden}' is not the same folder on all nodes: what "
            f"this node wrote there is not found on {blind.name} ({blind.address})"
        ) in driver.log()
        assert "trial slot" not in driver.log()
    assert list(hidden.iterdir()) == []


def test_each_node_prepares_its_own_cache_once(cluster: RayNodes) -> None:
    own = cluster.shared / "own-cache"
    own.mkdir()
    for node in cluster.nodes:
        node.machine.hide(own)
    values = two_rank_search(cluster, name="own-cache", **{"cluster.placement": "spread"})
    shared = result(
        cluster, cluster.drive("shared-cache", values | {"name": "shared-cache"}).report()
    )
    values["cluster"] |= {"cache_path": str(own), "cache": "per_node"}
    driver = cluster.drive("own-cache", values)
    driver.wait_for(lambda events: any(event["evaluations"] for event in events))
    at_work = machines_with_workers(cluster)
    assert differences(result(cluster, driver.report()), shared) == []
    made = {node.machine.name: prepared(node.machine, own) for node in cluster.nodes}
    assert len(at_work) == 2 and all(made[name] == 1 for name in {*at_work, cluster.head.name})
    assert list(own.iterdir()) == []  # nothing of it outside


def prepared(machine: Machine, cache: Any) -> int:
    """Folders of documents in a machine's cache."""
    return machine.run("find", str(cache), "-name", "train.arrow").count("\n")


@pytest.fixture(scope="module")
def undisturbed(cluster: RayNodes) -> dict[str, Any]:
    return result(
        cluster, cluster.drive("undisturbed", whole_nodes(cluster, "undisturbed")).report()
    )


def whole_nodes(cluster: RayNodes, name: str) -> dict[str, Any]:
    """Three trials of two workers that take a node each."""
    return two_rank_search(
        cluster,
        name=name,
        **{
            "cluster.cpus_per_worker": 2.0,
            "cluster.progress_timeout_seconds": 30,
            "training.epochs": 24,
            "search.space": {"optimizer.learning_rate": {"choice": [1e-2, 3e-3, 1e-3]}},
        },
    )


def test_nodes_that_die_are_cut_off_and_come_change_no_number(
    cluster: RayNodes, undisturbed: dict[str, Any]
) -> None:
    driver = cluster.drive("disturbed", whole_nodes(cluster, "disturbed"))

    in_trial(driver, "trial-000", evaluations=2)
    cluster.kill(at_work(cluster))
    cluster.add()

    in_trial(driver, "trial-001", evaluations=2)
    cut = at_work(cluster)
    cluster.network.cut(cut)
    time.sleep(CUT_SECONDS)
    cluster.network.mend(cut)

    in_trial(driver, "trial-002", evaluations=2)
    for node in [node for node in cluster.nodes if node.machine is not cluster.head]:
        cluster.kill(node.machine)  # the head alone has no room for two workers
    no_more(driver)
    cluster.add()

    assert differences(result(cluster, driver.report()), undisturbed) == []


def at_work(cluster: RayNodes) -> Machine:
    """A machine other than the head on which a worker trains."""
    names = machines_with_workers(cluster)
    return next(
        node.machine
        for node in cluster.nodes
        if node.machine.name in names and node.machine is not cluster.head
    )


def no_more(driver: Driver, *, seconds: float = 20) -> None:
    """Return when the search has stood still for a while."""
    before, since = driver.events(), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(1)
        if (now := driver.events()) != before:
            before, since = now, time.monotonic()
    assert driver.process.poll() is None, driver.log()
