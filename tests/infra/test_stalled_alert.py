"""Debian's Prometheus with infra/monitoring as it stands, but for its times: it finds Ray's nodes
by the dashboard, scrapes a running search, and fires SearchStalled once the search is stopped.
"""

import json
import shutil
import signal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
import yaml

from tests.components.tuning.drive import Driver, start_driver
from tests.faults import harness
from tests.infra.references import INFRA
from tests.prometheus import prometheus

pytestmark = pytest.mark.slow
STALLED_SECONDS = 45
"""In place of 600; Ray passes numbers on every 10 s."""


def shortened(folder: Path, dashboard: str) -> Path:
    """The checked-in configuration and rules with this cluster's address and shorter times."""
    for file in ("prometheus.yaml", "rules.yaml"):
        shutil.copy(INFRA / "monitoring" / file, folder / file)
    rules = (folder / "rules.yaml").read_text()
    for old, new in (
        ("> 600)", f"> {STALLED_SECONDS})"),
        ("for: 1m", "for: 2s"),
        ("interval: 30s", "interval: 1s"),
    ):
        assert rules.count(old) == 1
        rules = rules.replace(old, new)
    (folder / "rules.yaml").write_text(rules)
    content: dict[str, Any] = yaml.safe_load((folder / "prometheus.yaml").read_text())
    content["global"] = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    (ray,) = content["scrape_configs"]
    (discovery,) = ray["http_sd_configs"]
    discovery |= {"url": f"http://{dashboard}/api/prometheus/sd", "refresh_interval": "5s"}
    (folder / "ray-token").write_text("of-a-cluster-that-asks-for-none")
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(content))
    return folder / "prometheus.yaml"


def firing(address: str) -> dict[str, str]:
    """Alerts that fire: name -> experiment."""
    try:
        with urlopen(f"{address}/api/v1/alerts", timeout=10) as answer:
            found = json.load(answer)["data"]["alerts"]
    except OSError:
        return {}
    return {
        each["labels"]["alertname"]: each["labels"].get("experiment", "")
        for each in found
        if each["state"] == "firing"
    }


def is_scraped(address: str) -> bool:
    try:
        with urlopen(
            f"{address}/api/v1/query?query=ray_prefixprop_progress_timestamp_seconds", timeout=10
        ) as answer:
            return bool(json.load(answer)["data"]["result"])
    except OSError:
        return False


def of_the_search(driver: Driver) -> list[psutil.Process]:
    """The driver, and the workers and actors of its slot."""
    kinds = (harness.WORKER, harness.SLOT, harness.CONTROLLER)
    found = [each for kind in kinds for each in harness.processes(kind)]
    return [psutil.Process(driver.process.pid), *found]


def test_a_search_that_is_stopped_fires_the_alert_and_one_that_goes_on_does_not(
    tmp_path: Path,
) -> None:
    import ray

    values = harness.toy_search(tmp_path)
    values["training"] |= {"epochs": 400}
    values["search"]["space"] = {"optimizer.learning_rate": {"choice": [1e-3]}}
    with harness.local_cluster() as cluster:
        dashboard = ray._private.worker.get_dashboard_url()
        with prometheus(tmp_path, shortened(tmp_path, dashboard)) as address:
            where = {"address": cluster, "tracking_uri": f"sqlite:///{tmp_path}/mlflow.db"}
            driver = start_driver(tmp_path, "toy", values=values, **where)
            harness.in_trial(driver, "trial-000", evaluations=2)
            harness.until(lambda: is_scraped(address), "it was not scraped", seconds=120)
            harness.until(
                lambda: "SearchStalled" not in firing(address),
                "the alert fires for a search that goes on",
                seconds=STALLED_SECONDS,
            )
            stopped = of_the_search(driver)
            try:
                for each in stopped:
                    each.send_signal(signal.SIGSTOP)
                harness.until(
                    lambda: firing(address).get("SearchStalled") == "toy",
                    f"no alert: {(tmp_path / 'prometheus.log').read_text()[-2000:]}",
                    seconds=STALLED_SECONDS + 90,
                )
            finally:
                for each in stopped:
                    each.send_signal(signal.SIGCONT)
                driver.process.kill()
                driver.process.wait(30)
