"""Promotion and rollback as a user asks for them."""

import itertools

import pytest

from components.errors import ClusterError, RegistryError
from components.inference.package import adapter_package
from components.registry import open_tracker
from pipelines.promote import promote, rollback

NAMES = (f"promoted-{number}" for number in itertools.count())


@pytest.fixture
def model(mlflow_uri, plain_adapter):
    """A model with champion 1 and challenger 2."""
    name = next(NAMES)
    tracker = open_tracker("mlflow", mlflow_uri)
    tracker.ensure_experiment(name, "")
    run = tracker.start_run(name, run_name="s", config={}, params={}, tags={})
    for accuracy in (0.7, 0.8):
        tracker.register_adapter(
            run,
            adapter_folder=plain_adapter,
            package=adapter_package(plain_adapter),
            model_name=name,
            metrics={"test/accuracy": accuracy},
            params={},
            description="",
            tags={},
        )
    return name


def test_challenger_is_promoted_and_rolled_back(model, mlflow_uri):
    report = promote(model, tracking_uri=mlflow_uri)
    assert (report.version, report.previous, report.changed) == (2, 1, True)
    assert report.description == "Test accuracy 80.0%."
    assert promote(model, version=2, tracking_uri=mlflow_uri).changed is False
    back = rollback(model, tracking_uri=mlflow_uri)
    assert (back.version, back.previous) == (1, 2)


def test_dry_run_changes_nothing(model, mlflow_uri):
    report = promote(model, version=2, tracking_uri=mlflow_uri, dry_run=True)
    assert (report.version, report.previous) == (2, 1)
    assert open_tracker("mlflow", mlflow_uri).resolve(f"models:/{model}@champion").version == 1


def test_promotion_of_nothing_is_an_error(model, mlflow_uri):
    with pytest.raises(RegistryError, match="no version 9"):
        promote(model, version=9, tracking_uri=mlflow_uri)
    with pytest.raises(RegistryError, match="no registered model 'absent'"):
        promote("absent", tracking_uri=mlflow_uri)
    promote(model, tracking_uri=mlflow_uri)
    with pytest.raises(RegistryError, match="no challenger"):
        promote(model, tracking_uri=mlflow_uri)
    rollback(model, tracking_uri=mlflow_uri)
    with pytest.raises(RegistryError, match="no champion before version 1"):
        rollback(model, tracking_uri=mlflow_uri)


def test_unreachable_registry_stops_a_promotion(tmp_path):
    with pytest.raises(ClusterError, match="does not exist"):
        promote("x", tracking_uri=f"sqlite:///{tmp_path}/absent/mlflow.db")
