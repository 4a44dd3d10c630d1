"""Adapters that were logged in MLflow and never became a version: of registrations that failed or
were killed. Nobody can load them by a name.

The fact a newcomer gets wrong: a version need not know its logged model's id (MLflow on a database
keeps none), so that places count too: nothing that any version points to is left over.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.errors import RegistryError
from components.registry.mlflow_pages import all_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE = 100


@dataclass(frozen=True)
class LeftoverModel:
    """`created_at` in seconds since 1970; `bytes`: of its files."""

    model_id: str
    status: str
    created_at: float
    location: str
    bytes: int


def leftover_models(tracking_uri: str, *, before: float) -> list[LeftoverModel]:
    """Logged adapters without a version that were made before that time (seconds since 1970) and
    whose run has ended, the oldest first. Raises ClusterError where the store does not answer,
    RegistryError where it refuses.
    """
    with _told(tracking_uri):
        return _found(_client(tracking_uri), before)


def _found(client: "MlflowClient", before: float) -> list[LeftoverModel]:
    versions = all_of(
        lambda token: client.search_model_versions(max_results=PAGE, page_token=token)
    )
    known = {
        name
        for version in versions
        for name in (version.source, version.model_id, version.tags.get("model_id"))
    }
    experiments = [
        each.experiment_id
        for each in all_of(
            lambda token: client.search_experiments(max_results=PAGE, page_token=token)
        )
    ]
    found = []
    for experiment in experiments:
        for model in _models(client, experiment):
            unknown = not {model.model_id, model.artifact_location} & known
            if unknown and model.creation_timestamp / 1000 < before and _has_ended(client, model):
                found.append(_leftover(client, model))
    return sorted(found, key=lambda each: each.created_at)


def remove_leftover(tracking_uri: str, model: LeftoverModel) -> None:
    """Delete the logged model, then its files. Killed in between, they wait for `mlflow gc`. Raises
    as `leftover_models`.
    """
    with _told(tracking_uri):
        client = _client(tracking_uri)
        client.delete_logged_model(model.model_id)
        _files(client, model.location).delete_artifacts()


@contextmanager
def _told(tracking_uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        line = " ".join(str(error).split())
        raise RegistryError(f"MLflow at {tracking_uri} refused: {line}") from error


def _client(tracking_uri: str) -> "MlflowClient":
    from components.registry.mlflow_tracker import MlflowTracker

    tracker = MlflowTracker(tracking_uri)
    tracker.check()
    return tracker.client


def _models(client: "MlflowClient", experiment_id: str) -> Iterator[Any]:
    """Those that a registration of this project made (mlflow_registration.py)."""

    def page(token: str | None) -> Any:
        return client.search_logged_models([experiment_id], max_results=50, page_token=token)

    for model in all_of(page):
        if model.model_type == "adapter":
            yield model


def _has_ended(client: "MlflowClient", model: Any) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(model.source_run_id).info.status != "RUNNING")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return True


def _leftover(client: "MlflowClient", model: Any) -> LeftoverModel:
    location = str(model.artifact_location)
    return LeftoverModel(
        model_id=str(model.model_id),
        status=str(model.status),
        created_at=model.creation_timestamp / 1000,
        location=location,
        bytes=_bytes(_files(client, location), None),
    )


def _files(client: "MlflowClient", location: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(location, tracking_uri=client.tracking_uri)


def _bytes(files: Any, folder: str | None) -> int:
    return sum(
        _bytes(files, each.path) if each.is_dir else int(each.file_size or 0)
        for each in files.list_artifacts(folder)
    )
