"""Runs in MLflow, over http (`mlflow server`) or straight on a database (`sqlite:///...`); the
registry half is in mlflow_models.py.

Only MlflowClient is used, never the fluent `mlflow.log_*`: those write to whatever run and store
the process last touched. mlflow is imported by the first call.
"""

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from components.errors import ConfigError, RegistryError
from components.loopback import direct_loopback
from components.registry import (
    mlflow_children,
    mlflow_datasets,
    mlflow_experiments,
    mlflow_models,
    mlflow_registration,
    mlflow_views,
    shown_tags,
)
from components.registry.history import HistoryEntry
from components.registry.mlflow_check import check_store
from components.registry.packaging import Package
from components.registry.pages import Dataset, Measured, View
from components.registry.store_address import split_credentials
from components.registry.tracking import Outcome, RegisteredAdapter, RegisteredVersion, param_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATUS: dict[Outcome, str] = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "infeasible": "FAILED",
    "failed": "FAILED",
    "lost": "FAILED",
    "interrupted": "KILLED",
}
# Without this part the UI opens an experiment in its GenAI view, where a training run is not to be
# seen.
VIEW = "?workflowType=machine_learning"
CONFIG_FILE = "config.json"
NOTE = "mlflow.note.content"
# Set unless the user set them.
CLIENT_DEFAULTS = {
    # With MLflow's own 7 attempts of up to 120 seconds, a server that is down holds every call for
    # minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # stdout and the progress display belong to the command line; the link printed when a run ends
    # opens the wrong view.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # Usage reports to the outside are for the user to switch on.
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowTracker:
    """A Tracker on an MLflow tracking URI. Cheap to build and to send to another process: it holds
    the address only. User and password inside the address go into this process's environment,
    where MLflow looks for them.
    """

    def __init__(self, tracking_uri: str) -> None:
        if not tracking_uri:
            raise ConfigError(
                "The MLflow tracking URI is empty. Start a local server with `prefixprop up`, or "
                "set MLFLOW_TRACKING_URI, for example to http://127.0.0.1:5000."
            )
        address, credentials = split_credentials(tracking_uri)
        self.tracking_uri = address.rstrip("/")
        self._continued: dict[str, dict[str, frozenset[int]]] = {}
        for name, value in CLIENT_DEFAULTS.items():
            os.environ.setdefault(name, value)
        os.environ.update(credentials | direct_loopback(os.environ))

    def __reduce__(self) -> tuple[type["MlflowTracker"], tuple[str]]:
        return MlflowTracker, (self.tracking_uri,)

    @cached_property
    def client(self) -> "MlflowClient":
        from components.registry.mlflow_client import FittedClient

        return FittedClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    def check(self) -> None:
        check_store(self.tracking_uri)

    def ensure_experiment(self, name: str, description: str) -> str:
        return mlflow_experiments.ensure(self.client, name, description, self.tracking_uri)

    def start_run(
        self,
        experiment_name: str,
        *,
        run_name: str,
        config: Mapping[str, Any],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        run = self.client.create_run(
            self._experiment_id(experiment_name), run_name=run_name, tags=shown_tags.of_run(tags)
        )
        self.log_params(run.info.run_id, params)
        self.log_dict(run.info.run_id, config, CONFIG_FILE)
        return str(run.info.run_id)

    def resume_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._run(run_id)
        self._continued[run_id] = {}
        self.client.update_run(run_id, status="RUNNING")
        self.set_tags(run_id, tags)

    def start_child(
        self,
        parent_run_id: str,
        *,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        key: str = "",
    ) -> str:
        run_id, was_there, inherited = mlflow_children.start(
            self.client, parent_run_id, key=key or name, name=name, tags=tags
        )
        if was_there:
            self._continued[run_id] = {}
        self.log_params(run_id, {**inherited, **params})
        return run_id

    def rename(self, run_id: str, name: str) -> None:
        self.client.update_run(run_id, name=name)

    def log_datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        mlflow_datasets.log_datasets(self.client, run_id, datasets)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(name, float(value), now, step)
            for name, value in metrics.items()
            if step not in self._steps_of(run_id, name)
        ]
        if not points:
            return
        try:
            self.client.log_batch(run_id, metrics=points)
        except Exception:
            # The store may have taken them and only the answer been lost.
            self._continued[run_id] = {}
            raise

    def _steps_of(self, run_id: str, name: str) -> frozenset[int]:
        """Steps at which a run that was there before has the metric; asked once for each."""
        known = self._continued.get(run_id)
        if known is None:
            return frozenset()
        if name not in known:
            history = self.client.get_metric_history(run_id, name)
            known[name] = frozenset(point.step for point in history)
        return known[name]

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        entries = [Param(name, param_text(value)) for name, value in params.items()]
        for start in range(0, len(entries), 100):
            self.client.log_batch(run_id, params=entries[start : start + 100])

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        stored = shown_tags.of_run(tags)
        self.client.log_batch(
            run_id, tags=[RunTag(name, str(value)) for name, value in stored.items()]
        )

    def log_dict(self, run_id: str, content: Mapping[str, Any], artifact_file: str) -> None:
        self.client.log_text(run_id, json.dumps(content, indent=2) + "\n", artifact_file)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        self.client.log_text(run_id, text, artifact_file)

    def describe_run(self, run_id: str, text: str) -> None:
        self.set_tags(run_id, {NOTE: text})

    def log_folder(self, run_id: str, folder: Path, artifact_path: str) -> None:
        self.client.log_artifacts(run_id, str(folder), artifact_path)

    def log_figure(self, run_id: str, figure: Any, artifact_file: str) -> None:
        self.client.log_figure(run_id, figure, artifact_file)

    def finish(self, run_id: str, outcome: Outcome, reason: str) -> None:
        self.set_tags(run_id, {"outcome": outcome, "outcome_reason": reason})
        self.client.set_terminated(run_id, STATUS[outcome])

    def find_run(self, experiment_name: str, tags: Mapping[str, str]) -> str | None:
        experiment = self.client.get_experiment_by_name(experiment_name)
        if experiment is None:
            return None
        stored = shown_tags.of_run(tags)
        run = mlflow_children.latest_run(self.client, experiment.experiment_id, stored)
        return None if run is None else str(run.info.run_id)

    def run_tags(self, run_id: str) -> dict[str, str]:
        return shown_tags.told(self._run(run_id).data.tags)

    def read_dict(self, run_id: str, artifact_file: str) -> dict[str, Any]:
        from mlflow.exceptions import MlflowException

        self._run(run_id)
        try:
            with tempfile.TemporaryDirectory() as scratch:
                content: dict[str, Any] = json.loads(
                    Path(self.client.download_artifacts(run_id, artifact_file, scratch)).read_text(
                        encoding="utf-8"
                    )
                )
        except (MlflowException, OSError) as error:
            raise RegistryError(
                f"The run {run_id} holds no readable {artifact_file}: {str(error).splitlines()[0]}"
            ) from error
        return content

    def run_url(self, run_id: str) -> str:
        return (
            self._url(f"experiments/{self._run(run_id).info.experiment_id}/runs/{run_id}")
            if self._has_page
            else ""
        )

    def experiment_url(self, experiment_name: str) -> str:
        return (
            self._url(f"experiments/{self._experiment_id(experiment_name)}/runs")
            if self._has_page
            else ""
        )

    def save_views(self, experiment_name: str, views: Sequence[View]) -> None:
        mlflow_views.save_views(self.client, self._experiment_id(experiment_name), views)

    def view_url(self, experiment_name: str, view: View) -> str:
        page = self.experiment_url(experiment_name)
        return page and f"{page}&{mlflow_views.query_of(view)}"

    def model_url(self, model_name: str, version: int) -> str:
        return (
            self._url(f"models/{quote(model_name, safe='')}/versions/{version}")
            if self._has_page
            else ""
        )

    def register_adapter(
        self,
        run_id: str,
        *,
        adapter_folder: Path,
        package: Package,
        model_name: str,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        description: str,
        tags: Mapping[str, str],
        headline: str = "",
        title: str = "",
        measured: Measured | None = None,
    ) -> RegisteredAdapter:
        return mlflow_registration.register(
            self.client,
            run_id,
            adapter_folder=adapter_folder,
            package=package,
            model_name=model_name,
            metrics=metrics,
            params=params,
            headline=headline,
            description=description,
            tags=tags,
            title=title,
            measured=measured or Measured(run_id),
        )

    def download_adapter(self, model_uri: str, folder: Path) -> Path:
        return mlflow_models.download(self.client, model_uri, folder)

    def download_folder(self, run_id: str, artifact_path: str, folder: Path) -> Path:
        return mlflow_models.download_folder(self.client, run_id, artifact_path, folder)

    def resolve(self, model_uri: str) -> RegisteredVersion:
        return mlflow_models.resolve(self.client, model_uri)

    def versions(self, model_name: str) -> tuple[RegisteredVersion, ...]:
        return mlflow_models.versions(self.client, model_name)

    def promote(self, model_name: str, version: int) -> RegisteredVersion:
        return mlflow_models.promote(self.client, model_name, version)

    def rollback(self, model_name: str) -> RegisteredVersion:
        return mlflow_models.rollback(self.client, model_name)

    def annotate(
        self,
        version: RegisteredVersion,
        *,
        tags: Mapping[str, str],
        line: str,
        headline: str | None = None,
    ) -> None:
        mlflow_models.annotate(self.client, version, tags=tags, line=line, headline=headline)

    def record(self, model_name: str, entry: HistoryEntry) -> None:
        mlflow_models.record(self.client, model_name, entry)

    def history(self, model_name: str) -> tuple[HistoryEntry, ...]:
        return mlflow_models.history(self.client, model_name)

    @property
    def _has_page(self) -> bool:
        return urlsplit(self.tracking_uri).scheme in ("http", "https")

    def _url(self, page: str) -> str:
        return f"{self.tracking_uri}/#/{page}{VIEW}"

    def _experiment_id(self, name: str) -> str:
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            raise RegistryError(
                f"MLflow at {self.tracking_uri} has no experiment '{name}'. Call ensure_experiment "
                "first, or check the name."
            )
        return str(experiment.experiment_id)

    def _run(self, run_id: str) -> "Run":
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RegistryError(
                f"MLflow at {self.tracking_uri} has no run '{run_id}'. It was deleted, or is in "
                "another store: give that one's address, or begin anew, without --resume."
            ) from error
