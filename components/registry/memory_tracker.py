"""A Tracker that lives and ends with its process: for tests and dry runs. The same rules as
MLflow's, no files but those asked for.
"""

import io
import json
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.errors import RegistryError
from components.registry.champions import Champions, promoted, rolled_back
from components.registry.describe import headline as headline_of
from components.registry.describe import version_tags, with_line
from components.registry.history import HistoryEntry
from components.registry.memory_store import MemoryModel, MemoryRun, read_files, write_files
from components.registry.packaging import Package
from components.registry.pages import Dataset, Measured, View
from components.registry.tracking import (
    CHALLENGER,
    CHAMPION,
    Outcome,
    RegisteredAdapter,
    RegisteredVersion,
    check_model_name,
    param_text,
    parse_model_uri,
    registration_of,
)


class MemoryTracker:
    """See tracking.Tracker. `tracking_uri` is only kept as a name. Adapter files are kept in memory
    too.
    """

    def __init__(self, tracking_uri: str = "memory://") -> None:
        self.tracking_uri = tracking_uri
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, MemoryRun] = {}
        self.models: dict[str, MemoryModel] = {}
        self.views: dict[str, tuple[View, ...]] = {}
        self._adapters: dict[str, dict[str, bytes]] = {}

    def check(self) -> None:
        return None

    def ensure_experiment(self, name: str, description: str) -> str:
        self.experiments[name] = description
        return str(list(self.experiments).index(name) + 1)

    def start_run(
        self,
        experiment_name: str,
        *,
        run_name: str,
        config: Mapping[str, Any],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        if experiment_name not in self.experiments:
            raise RegistryError(
                f"The memory tracker has no experiment '{experiment_name}'. Call ensure_experiment "
                "first."
            )
        run_id = self._new_run(MemoryRun(experiment_name, run_name, None, dict(tags)))
        self.log_params(run_id, params)
        self.log_dict(run_id, config, "config.json")
        return run_id

    def resume_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._continue(run_id)
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
        parent, key = self._run(parent_run_id), key or name
        all_tags = {"kind": "trial", **tags, "trial": key}
        existing = [
            run_id
            for run_id, run in self.runs.items()
            if run.parent == parent_run_id and run.tags["trial"] == key
        ]
        if existing:
            run_id = existing[0]
            self._continue(run_id)
            self.rename(run_id, name)
            self.set_tags(run_id, all_tags | {"resumed": "true"})
        else:
            run_id = self._new_run(MemoryRun(parent.experiment, name, parent_run_id, all_tags))
        self.log_params(run_id, {**parent.params, **params})
        return run_id

    def rename(self, run_id: str, name: str) -> None:
        self._run(run_id).name = name

    def log_datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        self._run(run_id).datasets = tuple(datasets)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int) -> None:
        run = self._run(run_id)
        for name, value in metrics.items():
            points = run.metrics.setdefault(name, [])
            if not (run.continued and any(known == step for known, _ in points)):
                points.append((step, float(value)))

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        run = self._run(run_id)
        for name, value in params.items():
            text = param_text(value)
            if run.params.setdefault(name, text) != text:
                raise ValueError(
                    f"The param {name} of the run {run_id} is {run.params[name]} and cannot become "
                    f"{text}."
                )

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._run(run_id).tags.update({name: str(value) for name, value in tags.items()})

    def log_dict(self, run_id: str, content: Mapping[str, Any], artifact_file: str) -> None:
        self._run(run_id).files[artifact_file] = json.dumps(content).encode()

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        self._run(run_id).files[artifact_file] = text.encode()

    def describe_run(self, run_id: str, text: str) -> None:
        self._run(run_id).description = text

    def log_folder(self, run_id: str, folder: Path, artifact_path: str) -> None:
        self._run(run_id).files.update(
            {f"{artifact_path}/{name}": content for name, content in read_files(folder).items()}
        )

    def log_figure(self, run_id: str, figure: Any, artifact_file: str) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        self._run(run_id).files[artifact_file] = buffer.getvalue()

    def finish(self, run_id: str, outcome: Outcome, reason: str) -> None:
        self.set_tags(run_id, {"outcome": outcome, "outcome_reason": reason})
        self._run(run_id).status = outcome

    def find_run(self, experiment_name: str, tags: Mapping[str, str]) -> str | None:
        wanted = tags.items()
        found = [
            run_id
            for run_id, run in self.runs.items()
            if run.experiment == experiment_name and wanted <= run.tags.items()
        ]
        return found[-1] if found else None

    def run_tags(self, run_id: str) -> dict[str, str]:
        return dict(self._run(run_id).tags)

    def read_dict(self, run_id: str, artifact_file: str) -> dict[str, Any]:
        files = self._run(run_id).files
        if artifact_file not in files:
            raise RegistryError(f"The run {run_id} holds no readable {artifact_file}.")
        content: dict[str, Any] = json.loads(files[artifact_file])
        return content

    def run_url(self, run_id: str) -> str:
        return ""

    def experiment_url(self, experiment_name: str) -> str:
        return ""

    def save_views(self, experiment_name: str, views: Sequence[View]) -> None:
        self.views[experiment_name] = tuple(views)

    def view_url(self, experiment_name: str, view: View) -> str:
        return ""

    def model_url(self, model_name: str, version: int) -> str:
        return ""

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
        check_model_name(model_name)
        self._run(run_id)
        if not (adapter_folder / "adapter_config.json").is_file():
            raise FileNotFoundError(f"'{adapter_folder}' holds no adapter_config.json.")
        model = self.models.setdefault(model_name, MemoryModel())
        registration = registration_of(tags)
        for made in model.versions:
            if registration and (run_id, registration) == (made.run_id, registration_of(made.tags)):
                alias = next(
                    alias for alias, version in model.aliases.items() if version == made.version
                )
                return RegisteredAdapter(
                    model_name, made.version, alias, made.model_uri, made.model_id
                )
        version, model_id = len(model.versions) + 1, f"m-{uuid.uuid4().hex}"
        self._adapters[model_id] = read_files(adapter_folder)
        by = measured or Measured(run_id)
        run = self._run(by.run_id)
        new = {name: value for name, value in metrics.items() if name not in run.metrics}
        self.log_metrics(by.run_id, new, step=by.step)
        first = headline or headline_of(metrics, params)
        text = "\n\n".join(part for part in (first, description) if part)
        all_tags = {**version_tags(metrics, params), **tags}
        model.versions.append(
            RegisteredVersion(
                model_name, version, (), all_tags, text, run_id, model_id, time.time()
            )
        )
        alias = CHALLENGER if CHAMPION in model.aliases else CHAMPION
        model.aliases[alias] = version
        return RegisteredAdapter(
            model_name, version, alias, f"models:/{model_name}/{version}", model_id
        )

    def download_adapter(self, model_uri: str, folder: Path) -> Path:
        if model_uri.startswith("runs:/"):
            run_id = model_uri.removeprefix("runs:/").split("/")[0]
            made = [
                version.model_id
                for model in self.models.values()
                for version in model.versions
                if version.run_id == run_id
            ]
            if not made:
                raise RegistryError(
                    f"model: the run {run_id} made no model. Give the run that registered one, or "
                    "models:/<name>@champion."
                )
            model_id = made[-1]
        else:
            model_id = self.resolve(model_uri).model_id
        target = folder / "adapter"
        shutil.rmtree(target, ignore_errors=True)
        write_files(self._adapters[model_id], target)
        return target

    def download_folder(self, run_id: str, artifact_path: str, folder: Path) -> Path:
        prefix = f"{artifact_path}/"
        files = {
            name.removeprefix(prefix): content
            for name, content in self._run(run_id).files.items()
            if name.startswith(prefix)
        }
        if not files:
            raise RegistryError(f"The run {run_id} holds no folder {artifact_path}.")
        write_files(files, folder)
        return folder

    def resolve(self, model_uri: str) -> RegisteredVersion:
        name, rest = parse_model_uri(model_uri)
        for version in self.versions(name):
            if rest in (str(version.version), *(f"@{alias}" for alias in version.aliases)):
                return version
        raise RegistryError(
            f"model: '{model_uri}' does not exist. '{name}' has {len(self.versions(name))} "
            "versions."
        )

    def versions(self, model_name: str) -> tuple[RegisteredVersion, ...]:
        model = self._model(model_name)
        return tuple(
            replace(
                version,
                aliases=tuple(
                    sorted(
                        alias
                        for alias, number in model.aliases.items()
                        if number == version.version
                    )
                ),
            )
            for version in model.versions
        )

    def promote(self, model_name: str, version: int) -> RegisteredVersion:
        model, champions = self._model(model_name), self._champions(model_name)
        after = promoted(champions, version)
        if after != champions:
            self._write(model, after)
            if model.aliases.get(CHALLENGER) == version:
                del model.aliases[CHALLENGER]
        return self.resolve(f"models:/{model_name}/{version}")

    def rollback(self, model_name: str) -> RegisteredVersion:
        after = rolled_back(self._champions(model_name))
        self._write(self._model(model_name), after)
        return self.resolve(f"models:/{model_name}/{after.current}")

    def annotate(
        self,
        version: RegisteredVersion,
        *,
        tags: Mapping[str, str],
        line: str,
        headline: str | None = None,
    ) -> None:
        versions = self._model(version.name).versions
        index = next(i for i, each in enumerate(versions) if each.version == version.version)
        each = versions[index]
        versions[index] = replace(
            each,
            tags={**each.tags, **tags},
            description=with_line(each.description, line, headline),
        )

    def record(self, model_name: str, entry: HistoryEntry) -> None:
        self._model(model_name).history.append(entry)

    def history(self, model_name: str) -> tuple[HistoryEntry, ...]:
        return tuple(self._model(model_name).history)

    def _champions(self, model_name: str) -> Champions:
        model = self._model(model_name)
        return Champions(
            model_name,
            tuple(version.version for version in model.versions),
            model.aliases.get(CHAMPION),
            model.before,
        )

    def _write(self, model: MemoryModel, champions: Champions) -> None:
        assert champions.current is not None
        model.aliases[CHAMPION], model.before = champions.current, champions.before

    def _model(self, model_name: str) -> MemoryModel:
        if model_name not in self.models:
            raise RegistryError(
                f"model: the memory registry has no registered model '{model_name}'."
            )
        return self.models[model_name]

    def _continue(self, run_id: str) -> None:
        run = self._run(run_id)
        run.status, run.continued = "RUNNING", True

    def _new_run(self, run: MemoryRun) -> str:
        run_id = uuid.uuid4().hex
        self.runs[run_id] = run
        return run_id

    def _run(self, run_id: str) -> MemoryRun:
        if run_id not in self.runs:
            raise RegistryError(f"The memory tracker has no run '{run_id}'.")
        return self.runs[run_id]
