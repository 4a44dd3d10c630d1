"""From an adapter folder to a registered version in MLflow: a LoggedModel of the run, a version of
it, its alias.

A version is a pyfunc by models-from-code with the plain artifact folder inside
(`artifacts/adapter`), so it can be used with this project's code or without any. Every failure
raises. The fact a newcomer gets wrong: a driver may be killed between any two of these calls, and
the one that goes on must end with one model and one version: what is there already is found by run,
search and settings, and taken up again.
"""

import json
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.registry import shown_tags
from components.registry.describe import headline as headline_of
from components.registry.describe import model_description, version_tags
from components.registry.mlflow_datasets import LONGEST_DIGEST
from components.registry.packaging import Package, save_pyfunc
from components.registry.pages import Measured
from components.registry.tracking import (
    CHALLENGER,
    CHAMPION,
    RegisteredAdapter,
    check_model_name,
    param_text,
    registration_of,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def register(
    client: "MlflowClient",
    run_id: str,
    *,
    adapter_folder: Path,
    package: Package,
    model_name: str,
    metrics: Mapping[str, float],
    params: Mapping[str, Any],
    headline: str,
    description: str,
    tags: Mapping[str, str],
    title: str,
    measured: Measured,
) -> RegisteredAdapter:
    """Make a LoggedModel of the run, and of it a version of `model_name` with its alias; the same
    ones again where this registration (see `registration_of`) was begun before.
    """
    check_model_name(model_name)
    config = json.loads((adapter_folder / "adapter_config.json").read_text(encoding="utf-8"))
    all_tags = {**version_tags(metrics, params), **tags}
    made = _version_before(client, model_name, run_id, tags)
    if made is None:
        model_id, location = _log_model(
            client,
            run_id,
            adapter_folder,
            package,
            name=title or model_name,
            metrics=metrics,
            measured=measured,
            params=params,
            tags=all_tags,
        )
        _ensure_model(client, model_name, config, package)
        first = headline or headline_of(metrics, params)
        made = client.create_model_version(
            model_name,
            # Not models:/<model id>: on a database without a server MLflow looks that up in its
            # process-wide store.
            source=location,
            run_id=run_id,
            model_id=model_id,
            await_creation_for=0,
            # MLflow on a database does not keep model_id with the version.
            tags=shown_tags.of_version({**all_tags, "model_id": model_id}),
            description="\n\n".join(part for part in (first, description) if part),
        )
    return _with_alias(client, model_name, made)


def _with_alias(client: "MlflowClient", name: str, made: "ModelVersion") -> RegisteredAdapter:
    """The version with the alias that it has, else champion where there is none, else
    challenger.
    """
    aliases: Mapping[str, str] = client.get_registered_model(name).aliases
    version = int(made.version)
    alias = next((alias for alias, other in aliases.items() if int(other) == version), None)
    if alias is None:
        alias = CHALLENGER if CHAMPION in aliases else CHAMPION
        client.set_registered_model_alias(name, alias, made.version)
    model_id = made.model_id or shown_tags.told(made.tags)["model_id"]
    return RegisteredAdapter(name, version, alias, f"models:/{name}/{version}", model_id)


def _version_before(
    client: "MlflowClient", model_name: str, run_id: str, tags: Mapping[str, str]
) -> "ModelVersion | None":
    """The version that this registration made before it was interrupted."""
    registration = registration_of(tags)
    if registration is None:
        return None
    for version in client.search_model_versions(f"run_id = '{run_id}'", max_results=200):
        if version.name == model_name and registration == registration_of(
            shown_tags.told(version.tags)
        ):
            return version
    return None


def _log_model(
    client: "MlflowClient",
    run_id: str,
    adapter_folder: Path,
    package: Package,
    *,
    name: str,
    metrics: Mapping[str, float],
    measured: Measured,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
) -> tuple[str, str]:
    """`mlflow.pyfunc.log_model` without its process-wide state: made, filled, marked ready (or
    failed). Returns model id and location of its files.
    """
    logged = _model_before(client, run_id, tags) or client.create_logged_model(
        client.get_run(run_id).info.experiment_id,
        # MLflow is stricter with these names than with registered ones.
        name=re.sub(r"[/:.%\"']", "-", name),
        source_run_id=run_id,
        tags=shown_tags.of_version(tags),
        params={key: param_text(value) for key, value in params.items()},
        model_type="adapter",
    )
    model_id, location = str(logged.model_id), str(logged.artifact_location)
    if logged.status == "READY":
        return model_id, location
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            save_pyfunc(
                folder,
                adapter_folder,
                package,
                run_id=run_id,
                model_id=model_id,
                artifact_location=logged.artifact_location,
            )
            client.log_model_artifacts(model_id, str(folder))
        _tell_of_model(client, run_id, logged, metrics, measured)
    except BaseException:
        client.finalize_logged_model(model_id, "FAILED")
        raise
    client.finalize_logged_model(model_id, "READY")
    return model_id, location


def _tell_of_model(
    client: "MlflowClient",
    run_id: str,
    logged: Any,
    metrics: Mapping[str, float],
    measured: Measured,
) -> None:
    """The model's metrics, which MLflow keeps as points of the run that measured them too, and that
    the run made it; each once.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    model_id, now = str(logged.model_id), int(time.time() * 1000)
    known = {metric.key for metric in logged.metrics or ()}
    documents = measured.dataset
    about = {
        "model_id": model_id,
        "run_id": measured.run_id,
        "dataset_name": None if documents is None else documents.name,
        "dataset_digest": None if documents is None else documents.digest[:LONGEST_DIGEST],
    }
    points = [
        Metric(key, float(value), now, measured.step, **about)
        for key, value in metrics.items()
        if key not in known
    ]
    client.log_batch(measured.run_id, metrics=points)
    for each in dict.fromkeys((run_id, measured.run_id)):
        outputs = client.get_run(each).outputs
        made = [] if outputs is None else outputs.model_outputs
        if all(known.model_id != model_id for known in made):
            client.log_outputs(each, [LoggedModelOutput(model_id, step=measured.step)])


def _model_before(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> Any:
    """The LoggedModel of this registration, ready or not; None where there is none, and where it
    failed.
    """
    registration = registration_of(tags)
    if registration is None:
        return None
    found = client.search_logged_models(
        [client.get_run(run_id).info.experiment_id],
        filter_string=f"source_run_id = '{run_id}'",
        max_results=50,
    )
    return next(
        (
            client.get_logged_model(model.model_id)
            for model in found
            if model.status != "FAILED"
            and registration_of(shown_tags.told(model.tags)) == registration
        ),
        None,
    )


def _ensure_model(
    client: "MlflowClient", model_name: str, config: Mapping[str, Any], package: Package
) -> None:
    from mlflow.exceptions import MlflowException

    labels, backbone = (
        tuple(config["head"].get("labels") or ()),
        (config.get("backbone") or {}).get("name_or_path"),
    )
    try:
        client.create_registered_model(
            model_name,
            # Four at least: MLflow's table of models counts hidden tags among those that it leaves
            # out, and says "-1 more" of two.
            tags={
                "method": str(config.get("method")),
                "backbone": str(backbone),
                "task": package.usage.purpose,
                CHAMPION: "none yet",
            },
            description=model_description(model_name, labels, backbone, package.usage),
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
