"""Real searches on a real server for the browser: one that finished, and one that was interrupted
and continued, with a trial that diverged and one whose workers were killed until it was given up.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from components.config import resolved
from pipelines.experiments import load_experiment
from pipelines.local_cluster.access import access_to
from tests.components.tuning.drive import Driver, start_driver
from tests.faults import harness

EXPERIMENT = "demo"
DOCUMENTS = (
    "data.letters.train_documents=192",
    "data.letters.validation_documents=48",
    "data.letters.test_documents=96",
    "training.evaluations_per_epoch=4",
    "training.epochs=2",
)
FINISHED = ("search.space.optimizer.learning_rate={choice: [6e-3, 1e-2]}",)
DISTURBED = (
    "seed=11",
    "search.space.adapter.prefix_length={choice: [8]}",
    "search.space.optimizer.learning_rate={choice: [2e-3, 8e-3, 1e30, 1.2e-2]}",
    "search.trial_scheduler=none",
    "search.allow_lost_trials=true",
)
LOST, DIVERGED = "trial-001", "trial-002"


@dataclass(frozen=True)
class Plant:
    """A server with its searches. `link` lets a browser in; reports are those of the searches."""

    tracking_uri: str
    link: str
    finished: dict[str, Any]
    disturbed: dict[str, Any]


@contextmanager
def plant(folder: Path) -> Iterator[Plant]:
    """Everything up and searched; ended with the block."""
    with harness.standing_cluster(folder / "state") as cluster:
        where = {"address": cluster.ray_address, "tracking_uri": cluster.tracking_uri}
        finished = start_driver(folder, "finished", values=values(folder, *FINISHED), **where)
        report = finished.report()
        disturbed = disturb(folder, where)
        link = access_to(cluster, folder / "state").mlflow_link
        yield Plant(cluster.tracking_uri, link, report, disturbed)


def values(folder: Path, *overrides: str) -> dict[str, Any]:
    """The demo with few documents, kept below `folder`."""
    places = (
        f"cluster.storage_path={folder / 'storage'}",
        f"cluster.cache_path={folder / 'cache'}",
    )
    found: dict[str, Any] = resolved(load_experiment(EXPERIMENT, [*DOCUMENTS, *places, *overrides]))
    return found


def disturb(folder: Path, where: dict[str, str]) -> dict[str, Any]:
    """The second search: the driver is interrupted, and once it goes on, a trial loses its workers
    for good.
    """
    driver = start_driver(folder, "disturbed", values=values(folder, *DISTURBED), **where)
    harness.in_trial(driver, "trial-000", evaluations=3)
    driver.process.send_signal(signal.SIGINT)
    assert driver.wait() == 130, driver.log()
    resumed = start_driver(folder, "disturbed", resume=True, **where)
    harness.in_trial(resumed, LOST, evaluations=2)
    harness.until(lambda: _is_lost_after_a_kill(resumed), "it was never given up", seconds=600)
    return resumed.report()


def _is_lost_after_a_kill(driver: Driver) -> bool:
    """Kill whatever workers there are: before they come to a further evaluation."""
    for worker in harness.alive(harness.WORKER):
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    return _is_lost(driver)


def _is_lost(driver: Driver) -> bool:
    return any(each["name"] == LOST and each["outcome"] == "lost" for each in driver.events())
