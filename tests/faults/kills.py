"""Twenty kills, chosen by a seed, in one search of eight trials at default settings: the same
champion, the same numbers, nothing twice, nothing left. `python -m tests.faults.kills [SEED]`.

Killed are workers, slots, Train controllers, the driver, the MLflow server and the Ray head. After
a driver or a head a person would type `prefixprop up` and `--resume`, and so does this program.
Prints a line per kill; ends with code 1 where anything differs from the undisturbed search.
"""

import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipelines.local_cluster import lifecycle
from tests.components.tuning.drive import Driver, start_driver
from tests.faults import harness

KILLS, EPOCHS = 20, 40
DRIVER, MLFLOW, HEAD = "driver", "mlflow", "head"
KINDS = (harness.WORKER, harness.SLOT, harness.CONTROLLER, DRIVER, MLFLOW, HEAD)
FEWEST_SECONDS, MOST_SECONDS = 5.0, 25.0
MLFLOW_AWAY_SECONDS = 5.0
ORPHANED_SECONDS = 120.0
"""After this long without its head a person ends the driver."""
RESUMED_AT_MOST = 3


def toy(folder: Path) -> dict[str, Any]:
    values = harness.toy_search(folder)
    values["training"] |= {"epochs": EPOCHS}
    values["search"] = {
        "searcher": "grid",
        "trial_scheduler": "none",
        "space": {
            "adapter.prefix_length": {"choice": [4, 2]},
            "optimizer.learning_rate": {"choice": [1e-2, 3e-3, 1e-3, 3e-4]},
        },
    }
    return values


@dataclass
class Plant:
    """A search on a standing cluster, and what brings both back."""

    state: Path
    where: dict[str, Any]
    driver: Driver

    def kill(self, kind: str) -> int | None:
        """SIGKILL one of the kind; None where there is none just now."""
        if kind == DRIVER:
            self.driver.process.kill()
            self.driver.process.wait()
            return int(self.driver.process.pid)
        if kind in (MLFLOW, HEAD):
            return harness.kill_server(self.state, "ray" if kind == HEAD else "mlflow")
        found = harness.alive(kind)
        if not found:
            return None
        try:
            found[-1].kill()
        except psutil.NoSuchProcess:
            return None
        return int(found[-1].pid)

    def bring_back(self, kind: str) -> None:
        """What a person does after such a kill; nothing where the search mends it by itself."""
        if kind == MLFLOW:
            time.sleep(MLFLOW_AWAY_SECONDS)
            lifecycle.up(self.state)
        if kind == HEAD:
            self._end_orphaned()
            lifecycle.up(self.state)
        if kind in (DRIVER, HEAD):
            self.resume()

    def resume(self) -> None:
        """What the ended driver's last line says."""
        self.driver = start_driver(**self.where, resume=True)

    def report(self) -> dict[str, Any]:
        """The search's report, resumed as often as a person would where a kill has ended it."""
        for _ in range(RESUMED_AT_MOST):
            if self.driver.wait() == 0:
                break
            self.resume()
        return self.driver.report()

    def _end_orphaned(self) -> None:
        try:
            self.driver.process.wait(ORPHANED_SECONDS)
        except subprocess.TimeoutExpired:
            self.driver.process.kill()


def disturbed(plant: Plant, draw: random.Random, *, kills: int) -> list[str]:
    """Kill over and over while the search runs; what was killed."""
    killed: list[str] = []
    started = time.monotonic()
    while len(killed) < kills:
        time.sleep(draw.uniform(FEWEST_SECONDS, MOST_SECONDS))
        if plant.driver.process.poll() == 0:
            break
        if plant.driver.process.poll() is not None:
            print(f"       the driver gave up: {plant.driver.log().splitlines()[-1]}", flush=True)
            plant.resume()
        kind = draw.choice(KINDS)
        pid = plant.kill(kind)
        if pid is None:
            continue
        killed.append(kind)
        seconds = time.monotonic() - started
        print(f"{seconds:6.0f} s  kill {len(killed):2}: {kind}, process {pid}", flush=True)
        plant.bring_back(kind)
    return killed


def main(seed: int, kills: int) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base, killed, results = toy(folder), list[str](), {}
        with harness.standing_cluster(folder / "state") as cluster:
            for name in ("undisturbed", "disturbed"):
                place = folder / name
                place.mkdir()
                where = {
                    "folder": place,
                    "name": name,
                    "address": cluster.ray_address,
                    "tracking_uri": cluster.tracking_uri,
                }
                started = time.monotonic()
                storage = base["cluster"] | {"storage_path": str(place / "storage")}
                values = base | {"name": name, "cluster": storage}
                driver = start_driver(**where, values=values)
                plant = Plant(folder / "state", where, driver)
                if name == "disturbed":
                    killed = disturbed(plant, random.Random(seed), kills=kills)
                report = plant.report()
                print(f"{name}: {time.monotonic() - started:.0f} s, {len(killed)} kills")
                tracked = harness.tracked(cluster.tracking_uri, name)
                results[name] = harness.outcome(report) | {"tracked": tracked}
            left = harness.left_behind()
    return told(results["undisturbed"], results["disturbed"], killed, left, kills=kills)


def told(
    one: dict[str, Any], other: dict[str, Any], killed: list[str], left: list[str], *, kills: int
) -> int:
    """Print what holds; the exit code."""
    for line in (*harness.differences(one, other), *left):
        print(f"     {line}")
    checks = {
        f"{len(killed)} of {kills} kills before its end": len(killed) == kills,
        "every kind was killed": {*killed} == {*KINDS},
        "the same champion": one["best_trial"] == other["best_trial"],
        "the same numbers": {**one, "tracked": 0} == {**other, "tracked": 0},
        "the same in MLflow": one["tracked"] == other["tracked"],
        "nothing twice": harness.twice(other["tracked"]) == [],
        "nothing left": not left,
    }
    for name, holds in checks.items():
        print(f"{'yes' if holds else 'NO '}  {name}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    given = [int(each) for each in sys.argv[1:]]
    sys.exit(main(*given, *(1, KILLS)[len(given) :]))
