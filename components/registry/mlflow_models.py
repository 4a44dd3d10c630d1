"""The registry half of MLflow: registered versions and their aliases (mlflow_registration.py makes
them). Every failure raises.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigError, RegistryError
from components.registry import shown_tags
from components.registry.champions import Champions, promoted, rolled_back
from components.registry.describe import with_history, with_line
from components.registry.history import HistoryEntry, entries_of, tag_of
from components.registry.mlflow_pages import all_of
from components.registry.shown_tags import PREFIX
from components.registry.tracking import (
    CHALLENGER,
    CHAMPION,
    RegisteredVersion,
    parse_model_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

ADAPTER_PATH = "artifacts/adapter"
HISTORY_TAG = "champion_history"
LONGEST_HISTORY = 500
"""Champions before the present one that are remembered: as many as a tag holds."""


def download(client: "MlflowClient", model_uri: str, folder: Path) -> Path:
    """The artifact folder of models:/name@alias, models:/name/3 or runs:/<run id> (the model that
    the run registered), as `folder`/adapter.
    """
    if model_uri.startswith("runs:/"):
        location = _location_of_run(client, model_uri)
    else:
        version = resolve(client, model_uri)
        location = client.get_model_version_download_uri(version.name, str(version.version))
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            found = download_artifacts(
                artifact_uri=f"{location}/{ADAPTER_PATH}",
                dst_path=scratch,
                tracking_uri=client.tracking_uri,
            )
        except (MlflowException, OSError) as error:
            raise RegistryError(
                f"model: '{model_uri}' holds no adapter below {location}/{ADAPTER_PATH}: "
                f"{' '.join(str(error).split())}"
            ) from error
        target = folder / "adapter"
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(found, target)
    return target


def download_folder(client: "MlflowClient", run_id: str, artifact_path: str, folder: Path) -> Path:
    """An artifact folder of a run, as `folder`."""
    from mlflow.exceptions import MlflowException

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        try:
            found = client.download_artifacts(run_id, artifact_path, scratch)
        except (MlflowException, OSError) as error:
            raise RegistryError(
                f"The run {run_id} holds no folder {artifact_path}: {' '.join(str(error).split())}"
            ) from error
        shutil.rmtree(folder)
        shutil.move(found, folder)
    return folder


def _location_of_run(client: "MlflowClient", model_uri: str) -> str:
    from mlflow.exceptions import MlflowException

    run_id = model_uri.removeprefix("runs:/").split("/")[0]
    try:
        outputs = client.get_run(run_id).outputs
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RegistryError(
            f"model: MLflow at {client.tracking_uri} has no run '{run_id}'."
        ) from error
    models = outputs.model_outputs if outputs is not None else []
    if not models:
        raise RegistryError(
            f"model: the run {run_id} made no model. Give the run that registered one, or "
            "models:/<name>@champion."
        )
    # In no order of their own; a run that was resumed after it registered may have two.
    return str(
        max(
            (client.get_logged_model(model.model_id) for model in models),
            key=lambda model: model.creation_timestamp,
        ).artifact_location
    )


def resolve(client: "MlflowClient", model_uri: str) -> RegisteredVersion:
    name, rest = parse_model_uri(model_uri)
    known = versions(client, name)
    for version in known:
        if rest in (str(version.version), *(f"@{alias}" for alias in version.aliases)):
            return version
    aliases = ", ".join(
        f"@{alias} (version {version.version})" for version in known for alias in version.aliases
    )
    raise RegistryError(
        f"model: '{model_uri}' does not exist. '{name}' has {_range(known)}; aliases: "
        f"{aliases or 'none'}."
    )


def versions(client: "MlflowClient", model_name: str) -> tuple[RegisteredVersion, ...]:
    aliases: Mapping[str, str] = _model(client, model_name).aliases
    query = f"name = '{_searchable(model_name)}'"
    found = all_of(
        lambda token: client.search_model_versions(query, max_results=200, page_token=token)
    )
    return tuple(
        sorted((_version(item, aliases) for item in found), key=lambda version: version.version)
    )


def _model(client: "MlflowClient", model_name: str) -> "RegisteredModel":
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise RegistryError(
            f"model: MLflow at {client.tracking_uri} has no registered model '{model_name}'. "
            f"{_known_models(client)}"
        ) from error


def promote(client: "MlflowClient", model_name: str, version: int) -> RegisteredVersion:
    champions = _champions(client, model_name)
    after = promoted(champions, version)
    if after != champions:
        # History before alias: should the second step fail, a rollback skips the entry that equals
        # the champion. In a rollback it is the other way round.
        client.set_registered_model_tag(model_name, PREFIX + HISTORY_TAG, _history(after))
        client.set_registered_model_alias(model_name, CHAMPION, str(version))
        _tag_version(client, model_name, version, {"promoted_at": _now()})
        if _alias(client, model_name, CHALLENGER) == version:
            client.delete_registered_model_alias(model_name, CHALLENGER)
    return resolve(client, f"models:/{model_name}/{version}")


def rollback(client: "MlflowClient", model_name: str) -> RegisteredVersion:
    champions = _champions(client, model_name)
    after = rolled_back(champions)
    client.set_registered_model_alias(model_name, CHAMPION, str(after.current))
    client.set_registered_model_tag(model_name, PREFIX + HISTORY_TAG, _history(after))
    assert champions.current is not None
    _tag_version(client, model_name, champions.current, {"rolled_back_at": _now()})
    return resolve(client, f"models:/{model_name}/{after.current}")


def annotate(
    client: "MlflowClient",
    version: RegisteredVersion,
    *,
    tags: Mapping[str, str],
    line: str,
    headline: str | None,
) -> None:
    _tag_version(client, version.name, version.version, tags)
    text = with_line(version.description, line, headline)
    client.update_model_version(version.name, str(version.version), description=text)


def _tag_version(
    client: "MlflowClient", model_name: str, version: int, tags: Mapping[str, str]
) -> None:
    for name, value in shown_tags.of_version(tags).items():
        client.set_model_version_tag(model_name, str(version), name, value)


def record(client: "MlflowClient", model_name: str, entry: HistoryEntry) -> None:
    past = history(client, model_name)
    client.set_registered_model_tag(model_name, tag_of(len(past) + 1), entry.text())
    _tell(client, model_name, (*past, entry))


def _tell(client: "MlflowClient", model_name: str, entries: tuple[HistoryEntry, ...]) -> None:
    """Renew what the model's page says of its champion."""
    number, telling = entries[-1].champion_after, ""
    if number is not None:
        version = client.get_model_version(model_name, str(number))
        telling = (version.description or "").split("\n")[0]
        accuracy = version.tags.get("test_accuracy", "")
        client.set_registered_model_tag(
            model_name, CHAMPION, f"version {number} {accuracy}".strip()
        )
    text = _model(client, model_name).description or ""
    client.update_registered_model(model_name, with_history(text, model_name, entries, telling))


def history(client: "MlflowClient", model_name: str) -> tuple[HistoryEntry, ...]:
    return entries_of(_model(client, model_name).tags)


def _champions(client: "MlflowClient", model_name: str) -> Champions:
    known = tuple(version.version for version in versions(client, model_name))
    tags = shown_tags.told(client.get_registered_model(model_name).tags)
    history = tags.get(HISTORY_TAG, "[]")
    return Champions(
        model_name, known, _alias(client, model_name, CHAMPION), tuple(json.loads(history))
    )


def _history(champions: Champions) -> str:
    return json.dumps(champions.before[-LONGEST_HISTORY:])


def _alias(client: "MlflowClient", model_name: str, alias: str) -> int | None:
    found = client.get_registered_model(model_name).aliases.get(alias)
    return None if found is None else int(found)


def _version(item: "ModelVersion", aliases: Mapping[str, str]) -> RegisteredVersion:
    tags = shown_tags.told(item.tags)
    return RegisteredVersion(
        name=item.name,
        version=int(item.version),
        aliases=tuple(
            sorted(alias for alias, version in aliases.items() if int(version) == int(item.version))
        ),
        tags=tags,
        description=item.description or "",
        run_id=item.run_id or "",
        model_id=item.model_id or tags.get("model_id", ""),
        created_at=item.creation_timestamp / 1000,
    )


def _known_models(client: "MlflowClient") -> str:
    names = [model.name for model in client.search_registered_models(max_results=20)]
    return (
        f"It has {', '.join(names)}."
        if names
        else "It has none yet: `prefixprop search` registers one."
    )


def _searchable(name: str) -> str:
    if "'" in name:
        raise ConfigError(
            f"model: the name {name!r} holds a single quote, which MLflow cannot search for."
        )
    return name


def _range(known: tuple[RegisteredVersion, ...]) -> str:
    return f"versions {known[0].version} to {known[-1].version}" if known else "no versions"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
