"""Experiments in MLflow: made once, with a description that is kept true."""

from typing import TYPE_CHECKING

from components.errors import ConfigError
from components.registry.describe import experiment_description
from components.registry.store_address import sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOTE = "mlflow.note.content"
"""The tag that MLflow's pages show as description, of experiments and runs."""


def ensure(client: "MlflowClient", name: str, description: str, tracking_uri: str) -> str:
    """Id of the experiment, made if it is not there. Raises ConfigError where it was deleted."""
    from mlflow.exceptions import MlflowException

    from components.registry.mlflow_client import TAG, fitted

    note = fitted(experiment_description(description), TAG)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            location = _artifact_location(name, tracking_uri)
            return str(client.create_experiment(name, location, tags={NOTE: note}))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
    if experiment.lifecycle_stage != "active":
        raise ConfigError(
            f"name: the MLflow experiment '{name}' was deleted. Restore it (`mlflow "
            f"experiments restore -x {experiment.experiment_id}`) or take another name."
        )
    if experiment.tags.get(NOTE) != note:
        client.set_experiment_tag(experiment.experiment_id, NOTE, note)
    return str(experiment.experiment_id)


def _artifact_location(name: str, tracking_uri: str) -> str | None:
    """A database has no artifact store of its own: without a location MLflow would write below the
    current folder.
    """
    file = sqlite_file(tracking_uri)
    return None if file is None else (file.parent / "artifacts" / name).as_uri()
