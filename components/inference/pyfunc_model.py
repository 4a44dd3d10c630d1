"""The code of a registered adapter (models-from-code): MLflow runs this file where the model is
loaded.

The backbone comes from where adapter_config.json says (hub, installed package or folder). What may
be told it by `model_config` at load time, and the limits of a request: serving.py. A request that
goes beyond them is MLflow's INVALID_PARAMETER_VALUE, HTTP status 400; an adapter that cannot answer
is its INTERNAL_ERROR, 500.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.artifacts
import mlflow.pyfunc
import pandas
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, set_model
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE

from components.errors import ArtifactError, BackboneError, ConfigError, UserError
from components.inference.classifier import BATCH_SIZE, Classifier, load_classifier
from components.inference.following import Answering, Following
from components.inference.serving import (
    ServingConfig,
    batch_size_of,
    check_request,
    serving_config,
)
from components.inference.several import Several

ADAPTER = "artifacts/adapter"
VERSION_COLUMN = "model"
ALSO_COLUMN = "also"


class Refused(MlflowException):  # type: ignore[misc]
    """A request that is not answered. MLflow's server would put the frame before the message, and
    with it what somebody's documents say.
    """

    @property
    def message(self) -> str:
        return self._line

    @message.setter
    def message(self, line: str) -> None:
        self._line: str = getattr(self, "_line", line)


class AdapterModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """The columns of the task's signature, in and out."""

    settings: ServingConfig
    following: Following
    also: Mapping[str, Classifier]

    def load_context(self, context: Any) -> None:
        self.settings = serving_config(context.model_config)
        folder = Path(context.artifacts["adapter"])
        first = Answering(_live(folder, self.settings), _version_of(folder.parents[1]))
        self.also = _also(self.settings, first.version)
        Several({first.version: first.classifier, **self.also})
        self.following = _following(first, self.settings, self.also)

    # DataFrame is the one type hint that MLflow neither turns into a signature of its own nor warns
    # about.
    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """`model_input`: a DataFrame with the columns of the task's signature (`text` of a
        classifier); returns one with its answers (`label` and `probabilities`), same rows in the
        same order. With `with_version` of `params` a column `model` says which version answered.
        With model_config.also a column `also` holds the further adapters' answers, by version.
        """
        try:
            return self._answers(model_input, params or {})
        except (ArtifactError, BackboneError) as error:
            raise Refused(str(error), error_code=INTERNAL_ERROR) from error
        except UserError as error:
            raise Refused(str(error), error_code=INVALID_PARAMETER_VALUE) from error

    def _answers(
        self, model_input: pandas.DataFrame, params: Mapping[str, Any]
    ) -> pandas.DataFrame:
        answering = self.following.current  # one version answers the whole request
        signature = answering.classifier.task.signature
        records = model_input[list(signature.inputs)].to_dict("records")
        check_request(records, signature.inputs, self.settings)
        several = Several({answering.version: answering.classifier, **self.also})
        answers = list(
            several.answers(
                answering.classifier.task.asked(records),
                batch_size=batch_size_of(params, BATCH_SIZE),
            )
        )
        own = [each.pop(answering.version) for each in answers]
        found = pandas.DataFrame(own, columns=list(signature.outputs), index=model_input.index)
        if self.also:
            found[ALSO_COLUMN] = answers
        if params.get("with_version"):
            found[VERSION_COLUMN] = answering.version
        return found


def _live(folder: Path, settings: ServingConfig) -> Classifier:
    return load_classifier(
        folder,
        cache_path=Path(settings.cache_path) if settings.cache_path else None,
        trusted=True,  # whoever may register a model decides what it runs
    )


def _version_of(model_folder: Path) -> str:
    """<name>/<version> of a model that came by the registry, else the id of its logged model."""
    meta = model_folder / "registered_model_meta"
    if meta.is_file():
        import yaml

        values = yaml.safe_load(meta.read_text(encoding="utf-8"))
        return f"{values['model_name']}/{values['model_version']}"
    return str(Model.load(str(model_folder)).model_id or "unregistered")


def _also(settings: ServingConfig, first: str) -> dict[str, Classifier]:
    """The further adapters, by version: `demo/3`."""
    found: dict[str, Classifier] = {}
    for address in settings.also:
        path = address.removeprefix("models:/")
        name, _, alias = path.partition("@")
        number = path.rpartition("/")[2]
        if path == address or not (name and alias if "@" in path else number.isdecimal()):
            raise ConfigError(
                f"model_config: also: '{address}' is no registered version. Give "
                "models:/<name>@<alias> or models:/<name>/<version>."
            )
        version = _newest(name, alias) if alias else path
        if version in (first, *found):
            raise ConfigError(f"model_config: also: '{version}' answers by itself. Remove it.")
        found[version] = _fetched(version, settings)
    return found


def _newest(name: str, alias: str) -> str:
    return f"{name}/{MlflowClient().get_model_version_by_alias(name, alias).version}"


def _fetched(version: str, settings: ServingConfig) -> Classifier:
    with TemporaryDirectory(prefix="prefixprop-") as scratch:
        place = f"models:/{version}/{ADAPTER}"
        folder = mlflow.artifacts.download_artifacts(artifact_uri=place, dst_path=scratch)
        return _live(Path(folder), settings)


def _following(
    first: Answering, settings: ServingConfig, also: Mapping[str, Classifier]
) -> Following:
    """Who answers: always the first, unless the settings say whom to follow."""
    address = settings.follow or ""
    name, _, alias = address.removeprefix("models:/").partition("@")
    if settings.follow is not None and not (address.startswith("models:/") and name and alias):
        raise ConfigError(
            f"model_config: follow: '{address}' names no alias. Give models:/<name>@champion."
        )

    def load(version: str) -> Classifier:
        found = _fetched(version, settings)
        Several({version: found, **also})  # raises where it is none of them
        return found

    following = Following(
        first,
        newest=lambda: _newest(name, alias),
        load=load,
        every_seconds=settings.follow_seconds,
    )
    return following if settings.follow is None else following.start()


set_model(AdapterModel())
