"""Logged models that never became a version are found and removed; no other one is."""

import time
from pathlib import Path
from typing import Any

import pytest

from components.errors import ClusterError
from components.inference.package import adapter_package
from components.registry import Tracker
from components.registry.leftover_models import leftover_models, remove_leftover
from components.registry.mlflow_tracker import MlflowTracker

ADAPTER = {"metrics": {}, "params": {}, "description": "", "tags": {}}


def register(tracker: Tracker, adapter: Path, name: str, **changes: Any) -> Any:
    tracker.ensure_experiment(name, "")
    run = tracker.start_run(name, run_name="s", config={}, params={}, tags={})
    package = adapter_package(adapter)
    made = tracker.register_adapter(
        run, adapter_folder=adapter, package=package, model_name=name, **(ADAPTER | changes)
    )
    tracker.finish(run, "completed", "")
    return made


def logged(tracker: MlflowTracker, name: str, *, status: str, outcome: str = "completed") -> str:
    """A logged model as a killed or failed registration leaves it."""
    experiment = tracker.ensure_experiment(name, "")
    run = tracker.start_run(name, run_name="s", config={}, params={}, tags={})
    client = tracker.client
    model = client.create_logged_model(
        experiment, name="m", source_run_id=run, tags={}, params={}, model_type="adapter"
    )
    folder = Path("files")
    folder.mkdir(exist_ok=True)
    (folder / "MLmodel").write_bytes(bytes(300))
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / "adapter").write_bytes(bytes(700))
    client.log_model_artifacts(model.model_id, str(folder))
    if status != "PENDING":
        client.finalize_logged_model(model.model_id, status)
    if outcome != "running":
        tracker.finish(run, outcome, "")  # type: ignore[arg-type]
    return str(model.model_id)


def check(uri: str, adapter: Path, name: str, tmp_path: Path) -> None:
    tracker = MlflowTracker(uri)
    register(tracker, adapter, name)
    registered = register(tracker, adapter, name)
    left = [logged(tracker, name, status=status) for status in ("FAILED", "READY", "PENDING")]
    at_work = logged(tracker, name, status="PENDING", outcome="running")
    found = {each.model_id: each for each in leftover_models(uri, before=time.time() + 1)}
    assert set(left) <= set(found)
    assert not {registered.model_id, at_work} & set(found)
    assert {found[each].bytes for each in left} == {1000}
    assert not {each.model_id for each in leftover_models(uri, before=time.time() - 3600)} & set(
        left
    )
    for each in left:
        remove_leftover(uri, found[each])
    after = {each.model_id for each in leftover_models(uri, before=time.time() + 1)}
    assert not set(left) & after
    for version in (1, 2):
        folder = tracker.download_adapter(f"models:/{name}/{version}", tmp_path / str(version))
        assert (folder / "adapter_config.json").is_file()


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_only_what_no_version_points_to_is_removed(
    mlflow_uri: str, plain_adapter: Path, tmp_path: Path
) -> None:
    check(mlflow_uri, plain_adapter, "leftovers", tmp_path)


@pytest.mark.slow
def test_so_it_is_through_a_server_that_keeps_the_files(
    mlflow_server: str, plain_adapter: Path, tmp_path: Path
) -> None:
    check(mlflow_server, plain_adapter, "leftovers", tmp_path)


def test_of_a_database_the_files_are_gone_from_the_disk(
    mlflow_uri: str, plain_adapter: Path
) -> None:
    tracker = MlflowTracker(mlflow_uri)
    model_id = logged(tracker, "leftovers-disk", status="FAILED")
    (found,) = (
        each
        for each in leftover_models(mlflow_uri, before=time.time() + 1)
        if each.model_id == model_id
    )
    place = Path(found.location.removeprefix("file://"))
    assert (place / "MLmodel").is_file()
    remove_leftover(mlflow_uri, found)
    assert not place.exists()


def test_a_store_that_does_not_answer_is_told() -> None:
    with pytest.raises(ClusterError):
        leftover_models("http://127.0.0.1:9", before=time.time())
