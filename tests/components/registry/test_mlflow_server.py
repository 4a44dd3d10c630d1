"""The same through a real MLflow server: several writers, links, registration and download over
http.
"""

import subprocess
import sys

import pytest

from components.inference.package import adapter_package
from components.registry import View, open_tracker

pytestmark = pytest.mark.slow

WRITER = """
import sys
from components.registry import TolerantTracker, open_tracker
tracking_uri, search, trial = sys.argv[1:]
tracker = TolerantTracker(open_tracker("mlflow", tracking_uri))
run = tracker.start_child(search, name=trial, params={"trial_param": trial}, tags={})
for step in range(20):
    tracker.log_metrics(run, {"loss": 1 / (step + 1), "tokens": step * 100.0}, step=step)
tracker.finish(run, "completed", "")
assert tracker.flush() and tracker.failures == 0
print(run)
"""


@pytest.fixture(scope="module")
def tracker(mlflow_server):
    return open_tracker("mlflow", mlflow_server)


@pytest.fixture
def search(tracker):
    tracker.ensure_experiment("served", "through a server")
    return tracker.start_run(
        "served",
        run_name="s",
        config={"seed": 10},
        params={"backbone": "tiny"},
        tags={"config_sha256": "abc"},
    )


def test_writers_in_several_processes_do_not_disturb_each_other(tracker, search):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tracker.tracking_uri, search, f"t{number % 3}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    runs = [writer.communicate(timeout=300)[0].strip() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert len(set(runs)) == 3
    for run in runs:
        found = tracker.client.get_run(run)
        assert found.data.params["backbone"] == "tiny"
        assert found.info.status == "FINISHED"
        assert len(tracker.client.get_metric_history(run, "loss")) == 20


def test_version_is_registered_and_downloaded_through_the_server(
    tracker, search, plain_adapter, tmp_path
):
    metrics = {"test/accuracy": 0.8, "loss": float("nan")}
    adapter = tracker.register_adapter(
        search,
        adapter_folder=plain_adapter,
        package=adapter_package(plain_adapter),
        model_name="served",
        metrics=metrics,
        params={},
        description="",
        tags={},
    )
    assert tracker.resolve("models:/served@champion").model_id == adapter.model_id
    folder = tracker.download_adapter("models:/served@champion", tmp_path)
    assert (folder / "adapter_model.safetensors").read_bytes() == bytes(range(256))
    assert tracker.download_adapter(f"runs:/{search}", tmp_path / "by-run").is_dir()
    assert tracker.read_dict(search, "config.json") == {"seed": 10}
    logged = tracker.client.get_logged_model(adapter.model_id)
    assert logged.source_run_id == search
    assert str(logged.status) == "READY"


def test_links_open_the_training_view(tracker, search):
    experiment = tracker.ensure_experiment("served", "through a server")
    assert (
        tracker.run_url(search)
        == f"{tracker.tracking_uri}/#/experiments/{experiment}/runs/{search}"
        "?workflowType=machine_learning"
    )
    assert (
        tracker.experiment_url("served")
        == f"{tracker.tracking_uri}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    )
    assert tracker.view_url("served", View("best-first", "Best first", ())) == (
        f"{tracker.tracking_uri}/#/experiments/{experiment}/runs?workflowType=machine_learning"
        "&viewStateShareKey=best-first"
    )
    assert (
        tracker.model_url("a model", 3)
        == f"{tracker.tracking_uri}/#/models/a%20model/versions/3?workflowType=machine_learning"
    )
