"""The one client through which texts reach an MLflow store, each fitted to its column.

sqlite takes a text of any length; PostgreSQL and MySQL refuse one that is longer than its column,
after the whole search. The smallest limit among stores and versions counts. What is for people is
shortened, what carries meaning (a name) is refused. No password or token is written.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from components.errors import ConfigError
from components.secrets import without_secret_value, without_secrets

NAME, RUN_NAME, KEY = 256, 250, 250
PARAM, TAG, DESCRIPTION = 6000, 5000, 5000
MORE = "..."
NO_CHARACTER = re.compile("[\0\ud800-\udfff]")


def fitted(text: str, limit: int) -> str:
    """The text in at most `limit` characters, without secrets and without what no database takes:
    NUL and halves of surrogate pairs.
    """
    text = NO_CHARACTER.sub("\ufffd", without_secrets(text))
    return text if len(text) <= limit else text[: limit - len(MORE)] + MORE


def fitted_value(key: str, value: str, limit: int) -> str:
    """The value of an entry, fitted; hidden where its key says that it is secret."""
    return fitted(without_secret_value(key, value), limit)


def fitted_values(values: Mapping[str, Any] | None, limit: int) -> dict[str, str]:
    """The same keys with fitted values."""
    return {key: fitted_value(key, str(value), limit) for key, value in (values or {}).items()}


def check_name(name: str, limit: int, what: str) -> None:
    """Raise ConfigError for a name that is longer than its column."""
    if len(name) > limit:
        raise ConfigError(
            f"{what}: a name of {len(name)} characters ('{name[:40]}{MORE}'), and MLflow keeps "
            f"{limit} at most. Give a shorter one."
        )


class FittedClient(MlflowClient):
    """An MlflowClient whose writing calls fit their texts. Only what this package calls is here."""

    def create_experiment(
        self,
        name: str,
        artifact_location: str | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> str:
        check_name(name, NAME, "name")
        return str(super().create_experiment(name, artifact_location, fitted_values(tags, TAG)))

    def set_experiment_tag(self, experiment_id: str, key: str, value: Any) -> None:
        super().set_experiment_tag(experiment_id, key, fitted(str(value), TAG))

    def create_run(
        self,
        experiment_id: str,
        *,
        tags: Mapping[str, Any] | None = None,
        run_name: str | None = None,
    ) -> Any:
        name = None if run_name is None else fitted(run_name, RUN_NAME)
        return super().create_run(experiment_id, tags=fitted_values(tags, TAG), run_name=name)

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        name = None if name is None else fitted(name, RUN_NAME)
        super().update_run(run_id, status=status, name=name)

    def log_batch(
        self,
        run_id: str,
        metrics: Iterable[Metric] = (),
        params: Iterable[Param] = (),
        tags: Iterable[RunTag] = (),
    ) -> None:
        params, tags = list(params), list(tags)
        for key in (each.key for each in (*metrics, *params, *tags)):
            check_name(key, KEY, "key")
        super().log_batch(
            run_id,
            metrics=metrics,
            params=[Param(each.key, fitted_value(each.key, each.value, PARAM)) for each in params],
            tags=[RunTag(each.key, fitted_value(each.key, each.value, TAG)) for each in tags],
        )

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        super().log_text(run_id, without_secrets(text), artifact_file)

    def create_logged_model(
        self,
        experiment_id: str,
        *,
        tags: Mapping[str, Any],
        params: Mapping[str, Any],
        **further: Any,
    ) -> Any:
        return super().create_logged_model(
            experiment_id,
            tags=fitted_values(tags, TAG),
            params=fitted_values(params, PARAM),
            **further,
        )

    def create_registered_model(
        self, name: str, *, tags: Mapping[str, Any], description: str
    ) -> Any:
        check_name(name, NAME, "registry.model_name")
        return super().create_registered_model(
            name, tags=fitted_values(tags, TAG), description=fitted(description, DESCRIPTION)
        )

    def update_registered_model(self, name: str, description: str) -> Any:
        return super().update_registered_model(name, fitted(description, DESCRIPTION))

    def create_model_version(
        self, name: str, *, tags: Mapping[str, Any], description: str, **further: Any
    ) -> Any:
        return super().create_model_version(
            name,
            tags=fitted_values(tags, TAG),
            description=fitted(description, DESCRIPTION),
            **further,
        )

    def update_model_version(self, name: str, version: str, *, description: str) -> Any:
        return super().update_model_version(name, version, fitted(description, DESCRIPTION))

    def set_registered_model_tag(self, name: str, key: str, value: Any) -> None:
        super().set_registered_model_tag(name, key, fitted(str(value), TAG))

    def set_model_version_tag(self, name: str, version: str, key: str, value: Any) -> None:
        super().set_model_version_tag(name, version, key, fitted(str(value), TAG))
