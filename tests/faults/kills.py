"""Twenty kills, chosen by a seed, in one search of eight trials at default settings: the same
champion, the same numbers, nothing twice, nothing left. `python -m tests.faults.kills [SEED]`.

A kill of the driver is followed by --resume, as a person would. Prints a line per kill; ends with
code 1 where anything differs from the undisturbed search.
"""

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from tests.components.tuning.drive import Driver, start_driver
from tests.faults import harness

KILLS, EPOCHS = 20, 40
KINDS = (harness.WORKER, harness.SLOT, harness.CONTROLLER, "driver")
FEWEST_SECONDS, MOST_SECONDS = 5.0, 25.0


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


def kill_one(kind: str, driver: Driver) -> int | None:
    """SIGKILL one process of the kind; None where there is none just now."""
    if kind == "driver":
        driver.process.kill()
        driver.process.wait()
        return int(driver.process.pid)
    found = harness.alive(kind)
    if not found:
        return None
    try:
        found[-1].kill()
    except psutil.NoSuchProcess:
        return None
    return int(found[-1].pid)


def disturbed(
    where: dict[str, Any], draw: random.Random, *, kills: int
) -> tuple[dict[str, Any], list[str]]:
    """The report of a search that is killed over and over, and what was killed."""
    driver, killed = start_driver(**where), list[str]()
    again = {name: value for name, value in where.items() if name != "values"}
    started = time.monotonic()
    while len(killed) < kills:
        time.sleep(draw.uniform(FEWEST_SECONDS, MOST_SECONDS))
        if driver.process.poll() is not None:
            break
        kind = draw.choice(KINDS)
        pid = kill_one(kind, driver)
        if pid is None:
            continue
        killed.append(kind)
        print(f"{time.monotonic() - started:6.0f} s  kill {len(killed):2}: {kind}, process {pid}")
        if kind == "driver":
            driver = start_driver(**again, resume=True)
            driver.wait_for(bool)  # a trial has started
    return driver.report(), killed


def main(seed: int, kills: int) -> int:
    with tempfile.TemporaryDirectory() as scratch, harness.local_cluster() as address:
        folder = Path(scratch)
        base, results = toy(folder), {}
        for name in ("undisturbed", "disturbed"):
            (folder / name).mkdir()
            values = base | {
                "cluster": base["cluster"] | {"storage_path": str(folder / name / "storage")}
            }
            uri = f"sqlite:///{folder / name}/mlflow.db"
            where: dict[str, Any] = {
                "folder": folder / name,
                "name": "toy",
                "address": address,
                "tracking_uri": uri,
                "values": values,
            }
            started = time.monotonic()
            if name == "undisturbed":
                report, killed = start_driver(**where).report(), []
            else:
                report, killed = disturbed(where, random.Random(seed), kills=kills)
            print(f"{name}: {time.monotonic() - started:.0f} s, {len(killed)} kills")
            tracked = harness.tracked(uri, "toy")
            results[name] = harness.outcome(report) | {"tracked": tracked}
        one, other = results["undisturbed"], results["disturbed"]
        left = harness.left_behind()
        for line in (*harness.differences(one, other), *left):
            print(f"     {line}")
        checks = {
            f"{len(killed)} of {kills} kills before its end": len(killed) == kills,
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
