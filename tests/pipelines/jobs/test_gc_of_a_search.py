"""An interrupted search of which gc took all that is old is continued by the same command, computes
the same numbers, and its registered version answers before and after.
"""

import signal
from pathlib import Path
from typing import Any

import pytest

from components.registry import open_tracker
from pipelines.gc import gc
from tests.components.tuning.drive import start_driver
from tests.toy import make_experiment

pytestmark = pytest.mark.slow


def last_of_each(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {event["name"]: event for event in events}


def numbers(trial: dict[str, Any]) -> dict[str, Any]:
    """Without times and what the machine was doing."""
    return {
        name: value
        for name, value in trial["metrics"].items()
        if "second" not in name and not name.startswith("system/")
    }


def test_what_gc_took_of_an_interrupted_search_is_made_again(
    ray_address: str, mlflow_uri: str, tmp_path: Path
) -> None:
    from tests.conftest import build_tiny_longformer

    values = make_experiment(tmp_path, build_tiny_longformer(), name="collected")
    values["search"] = {
        "searcher": "grid",
        "trial_scheduler": "none",
        "space": {"optimizer.learning_rate": {"choice": [1e-2, 1e-3]}},
    }
    values["training"] |= {"epochs": 6}
    where = {"address": ray_address, "tracking_uri": mlflow_uri}
    first = start_driver(tmp_path, "collected", values=values, **where)
    first.wait_for(lambda seen: any(event["outcome"] == "completed" for event in seen))
    first.process.send_signal(signal.SIGINT)
    assert first.wait() == 130, first.log()
    before = last_of_each(first.events())
    storage, cache = tmp_path / "storage", tmp_path / "cache"
    report = gc(storage, cache, older_than_days=0.0, keep_best=0)
    assert report.kept == ()
    assert {each.kind for each in report.garbage} == {"checkpoint", "Ray's files", "tokens"}
    assert not list(storage.rglob("*.safetensors"))
    second = start_driver(tmp_path, "collected", resume=True, **where)
    found = second.report()
    after = last_of_each(second.events())
    done = [name for name, trial in before.items() if trial["outcome"] == "completed"]
    assert done
    for name in done:
        assert numbers(after[name]) == numbers(before[name])
    tracker = open_tracker("mlflow", mlflow_uri)
    gc(storage, cache, older_than_days=0.0, keep_best=0, tracking_uri=mlflow_uri)
    adapter = tracker.download_adapter(found["model_uri"], tmp_path / "downloaded")
    assert (adapter / "adapter_model.safetensors").is_file()
    assert Path(found["adapter_folder"]).is_dir()
