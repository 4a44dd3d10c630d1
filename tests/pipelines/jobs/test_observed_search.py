"""A search that is watched from outside: its numbers at Ray's endpoint and in a real Prometheus,
its status while it runs, hangs and is over, its log, and the last steps of what failed in it.
"""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from components.config import ExperimentConfig, validate
from components.jobs.flight_record import FLIGHT_FILE, NO_STACKS, read_flight_record
from pipelines.status import SearchStatus, status
from tests.components.tuning.drive import Driver, start_driver
from tests.faults import harness
from tests.prometheus import prometheus

pytestmark = pytest.mark.slow
STALLED_SECONDS = 25
"""More than the 10 seconds after which Ray passes numbers on, less than a hang is found in."""
BUSY = 900.0
"""Seconds for what takes one minute on a machine of its own."""
STALLED = (
    "(time() - max by (experiment) "
    "(max_over_time(ray_prefixprop_progress_timestamp_seconds[6h])) > {seconds}) "
    "unless on (experiment) "
    "(max by (experiment) (max_over_time(ray_prefixprop_search_ended_timestamp_seconds[6h])) >= "
    "max by (experiment) (max_over_time(ray_prefixprop_progress_timestamp_seconds[6h])))"
)


def scraping(folder: Path, target: str) -> Path:
    """A configuration that scrapes the target every second."""
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    return folder / "prometheus.yml"


def asked(address: str, query: str) -> dict[str, float]:
    """What Prometheus answers: value by the labels but for Ray's own."""
    with urlopen(f"{address}/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    ours = ("experiment", "state", "rank", "kind")
    return {
        " ".join(each["metric"][name] for name in ours if name in each["metric"]): float(
            each["value"][1]
        )
        for each in found
    }


def shown(folder: Path, values: dict[str, Any]) -> SearchStatus:
    return status(validate(ExperimentConfig, values))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was seen of one search: a trial whose worker is killed and later stopped, and one that
    diverges.
    """
    import ray

    folder = tmp_path_factory.mktemp("watched")
    values = harness.toy_search(folder)
    values["training"] |= {"epochs": 150}
    values["search"]["space"] = {"optimizer.learning_rate": {"choice": [1e-3, 1e30]}}
    values["cluster"]["progress_timeout_seconds"] = 70
    seen: dict[str, Any] = {"folder": folder, "values": values}
    with harness.local_cluster() as cluster:
        (node,) = ray.nodes()
        target = f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
        with prometheus(folder, scraping(folder, target)) as address:
            where = {"address": cluster, "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
            driver = start_driver(folder, "toy", values=values, **where)
            watch(driver, address, seen)
            assert driver.process.wait(BUSY) == 0, driver.log()
            seen["report"] = driver.report()
            ended = "ray_prefixprop_search_ended_timestamp_seconds"
            harness.until(lambda: asked(address, ended), "its end was not told", seconds=60)
            query = "max by (experiment, state) (last_over_time(ray_prefixprop_trials[10m]))"
            seen["trials at the end"] = asked(address, query)
            time.sleep(STALLED_SECONDS + 2)
            seen["stalled after its end"] = asked(address, STALLED.format(seconds=STALLED_SECONDS))
        with urlopen(f"http://{target}/metrics", timeout=10) as answer:
            seen["text"] = answer.read().decode()
    seen["after"] = shown(folder, values)
    return seen


def watch(driver: Driver, address: str, seen: dict[str, Any]) -> None:
    """Of the first trial: its speed, then a worker that is killed, then one that is stopped."""
    folder, values = seen["folder"], seen["values"]
    begun(driver, evaluations=3)
    harness.until(lambda: shown(folder, values).steps_per_second, "no speed was shown", seconds=60)
    seen["running"] = shown(folder, values)
    rate = "sum by (experiment) (rate(ray_prefixprop_tokens_total[30s]))"
    harness.until(lambda: asked(address, rate).get("toy"), "no tokens were counted", seconds=90)
    for name in ("step_seconds", "train_loss", "worker_memory_bytes"):
        seen[name] = asked(address, f"max without (WorkerId) (ray_prefixprop_{name})")
    seen["stalled while it runs"] = asked(address, STALLED.format(seconds=STALLED_SECONDS))
    harness.kill(harness.WORKER)
    (record,) = harness.until(
        lambda: list(folder.glob(f"storage/toy/*/trials/*/{FLIGHT_FILE}")), "no flight record"
    )
    seen["flight"] = read_flight_record(record.parent)
    before = driver.events()[-1]["evaluations"]
    begun(driver, evaluations=before + 1)
    harness.stop(harness.WORKER)
    query = STALLED.format(seconds=STALLED_SECONDS)
    seen["stalled"] = harness.until(lambda: asked(address, query), "it did not stall", seconds=65)
    seen["hanging"] = shown(folder, values)


def begun(driver: Driver, *, evaluations: int) -> None:
    """Return when the first trial has told so many evaluations."""

    def told() -> bool:
        events = (each for each in driver.events() if each["name"] == "trial-000")
        return max((each["evaluations"] for each in events), default=0) >= evaluations

    harness.until(told, "the first trial did not come so far", seconds=BUSY)


def test_a_running_search_shows_its_speed_and_when_it_was_last_heard_of(
    watched: dict[str, Any],
) -> None:
    running: SearchStatus = watched["running"]
    assert running.runs and running.is_well and running.phase == "trials"
    assert running.by_state == {"running": 1} and running.trials_planned == 2
    assert running.steps_per_second and running.seconds_left and running.ranks == (1,)
    assert running.trials[0].best is not None and running.trials[0].step > 0
    for age in (running.age_of_driver, running.age_of_workers, running.age_of_step):
        assert age is not None and -1.0 < age < 30.0


def test_a_search_that_hangs_shows_when_the_last_step_was(watched: dict[str, Any]) -> None:
    hanging: SearchStatus = watched["hanging"]
    assert hanging.age_of_step is not None and hanging.age_of_step > STALLED_SECONDS - 12
    assert hanging.age_of_driver is not None and hanging.age_of_driver < STALLED_SECONDS


def test_a_search_that_is_over_says_so(watched: dict[str, Any]) -> None:
    after: SearchStatus = watched["after"]
    assert (after.state, after.driver, after.runs, after.is_well) == ("done", None, False, True)
    assert after.by_state == {"completed": 1, "diverged": 1}


def test_prometheus_has_its_speed_loss_and_memory(watched: dict[str, Any]) -> None:
    assert 0.0 < watched["step_seconds"]["toy"] < 60.0
    assert 0.0 < watched["train_loss"]["toy"] < 20.0
    assert watched["worker_memory_bytes"]["toy 0 host"] > 1e8


def test_a_worker_that_is_stopped_stalls_the_search_and_its_end_does_not(
    watched: dict[str, Any],
) -> None:
    assert watched["stalled while it runs"] == {}
    assert list(watched["stalled"]) == ["toy"]
    assert watched["stalled after its end"] == {}


def test_trials_are_counted_by_state(watched: dict[str, Any]) -> None:
    states = {
        name.removeprefix("toy "): count for name, count in watched["trials at the end"].items()
    }
    assert {name: count for name, count in states.items() if count} == {
        "completed": 1,
        "diverged": 1,
    }
    assert states["failed"] == 0


def test_no_name_is_without_a_meaning(watched: dict[str, Any]) -> None:
    lines = watched["text"].splitlines()
    told = {line.split()[2] for line in lines if line.startswith("# HELP ray_prefixprop_")}
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE ray_prefixprop_")}
    assert told == typed >= {"ray_prefixprop_steps_total", "ray_prefixprop_tokens_total"}


def test_a_killed_worker_leaves_the_last_steps_of_its_trial(watched: dict[str, Any]) -> None:
    flight = watched["flight"]
    rank = flight["ranks"]["0"]
    assert flight["cause"] == "workers" and rank["stacks"] == NO_STACKS
    numbers = [step["number"] for step in rank["steps"]]
    assert len(numbers) > 3 and numbers == sorted(numbers)
    assert all(step["loss"] > 0 and step["seconds"] > 0 for step in rank["steps"])


def test_a_trial_that_diverged_has_its_last_steps_as_an_artifact(watched: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{watched['folder']}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    runs = {
        trial["outcome"]: [each.path for each in client.list_artifacts(trial["run_id"])]
        for trial in watched["report"]["trials"]
    }
    assert FLIGHT_FILE in runs["diverged"] and FLIGHT_FILE not in runs["completed"]


def test_one_folder_has_what_every_process_did(watched: dict[str, Any]) -> None:
    files = list(watched["folder"].glob("storage/toy/*/logs/*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert {line["experiment"] for line in lines} == {"toy"}
    told = {line["event"] for line in lines}
    assert told >= {"began", "same versions as the driver", "evaluated", "workers ended", "done"}
    evaluated = [line for line in lines if line["event"] == "evaluated"]
    assert all({"trial", "rank", "step"} <= line.keys() for line in evaluated)
