"""The runs below a run in MLflow: one per training, found again by its key when it goes on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.errors import ConfigError
from components.registry import shown_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"


def start(
    client: "MlflowClient", parent_run_id: str, *, key: str, name: str, tags: Mapping[str, str]
) -> tuple[str, bool, dict[str, str]]:
    """Id of the child with this key, set to running; whether it was there before; and the params of
    its parent that it does not have.
    """
    from mlflow.entities import RunTag

    from components.registry.mlflow_client import RUN_NAME, check_name

    check_name(key, RUN_NAME, "name")  # the run is found by it
    parent = client.get_run(parent_run_id)
    whose = {PARENT: parent_run_id, "trial": key}
    stored = shown_tags.of_run({"kind": "trial", **tags, **whose})
    experiment_id, existing = parent.info.experiment_id, _child(client, parent, whose)
    if existing is None:
        made = client.create_run(experiment_id, run_name=name, tags=stored)
        return str(made.info.run_id), False, dict(parent.data.params)
    run_id = str(existing.info.run_id)
    client.update_run(run_id, status="RUNNING", name=name)
    stored |= {"resumed": "true"}
    client.log_batch(run_id, tags=[RunTag(tag, str(value)) for tag, value in stored.items()])
    missing = parent.data.params.keys() - existing.data.params.keys()
    return run_id, True, {name: parent.data.params[name] for name in missing}


def _child(client: "MlflowClient", parent: "Run", whose: Mapping[str, str]) -> "Run | None":
    """The child that carries these tags. Runs of before some tags were hidden carry them under
    their own names, the parent too.
    """
    experiment_id = parent.info.experiment_id
    found = latest_run(client, experiment_id, shown_tags.of_run(whose))
    if found is None and not shown_tags.HIDDEN_OF_RUNS.isdisjoint(parent.data.tags):
        found = latest_run(client, experiment_id, whose)
    return found


def latest_run(client: "MlflowClient", experiment_id: str, tags: Mapping[str, str]) -> "Run | None":
    """The latest run with all these tags, as they are stored."""
    from components.registry.mlflow_client import TAG, fitted

    query = " and ".join(
        f"tags.`{name}` = '{quoted(fitted(value, TAG))}'" for name, value in tags.items()
    )
    found = client.search_runs(
        [experiment_id], query, order_by=["attributes.start_time DESC"], max_results=1
    )
    return found[0] if found else None


def quoted(value: str) -> str:
    """A value inside single quotes of an MLflow filter, which knows no escape."""
    if "'" in value:
        raise ConfigError(
            f"The value {value!r} holds a single quote, which MLflow cannot search for. Take "
            "another name."
        )
    return value
