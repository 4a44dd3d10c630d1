"""What every tracker and registry offers. No mlflow is imported here.

Two Protocols: `RunLog` is what a trial may need (and what TolerantTracker lets fail), `Tracker`
adds what must never fail silently: searches, the registry, promotion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from components.errors import ConfigError
from components.registry.history import HistoryEntry
from components.registry.packaging import Package
from components.registry.pages import Dataset, Measured, View

Outcome = Literal["completed", "stopped", "diverged", "infeasible", "failed", "lost", "interrupted"]
OUTCOMES: tuple[Outcome, ...] = (
    "completed",
    "stopped",
    "diverged",
    "infeasible",
    "failed",
    "lost",
    "interrupted",
)
CHAMPION, CHALLENGER = "champion", "challenger"
LONGEST_MODEL_NAME = 256


@dataclass(frozen=True)
class RegisteredAdapter:
    """What `register_adapter` made. `alias` is champion where the model had none, else
    challenger.
    """

    name: str
    version: int
    alias: str
    model_uri: str
    model_id: str


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered adapter. `run_id` is the run that trained it; `created_at` is in
    seconds since 1970.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    description: str
    run_id: str
    model_id: str
    created_at: float

    @property
    def model_uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


class RunLog(Protocol):
    """Writing to runs."""

    def start_child(
        self,
        parent_run_id: str,
        *,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        key: str = "",
    ) -> str:
        """Run id of a child of the run, one training of many, with the parent's params copied down.
        The same (parent_run_id, key) gives the same run again, set to running, with this name and
        the tag `resumed`; an empty key is the name.
        """
        ...

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name for people."""
        ...

    def log_datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """The documents that a run was trained and measured with."""
        ...

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Metrics at an optimizer step; nan and inf are allowed. Log `tokens` among them: curves
        can then be drawn over tokens. A run that was there before (`start_child`, `resume_run`)
        keeps one value of a metric per step: what it has already is not written again.
        """
        ...

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Values that never change during the run; logging the same value twice is allowed, another
        value raises.
        """
        ...

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None: ...

    def log_dict(self, run_id: str, content: Mapping[str, Any], artifact_file: str) -> None:
        """Store a JSON-able mapping as a file of the run (name ends in .json)."""
        ...

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """Store a text as a file of the run."""
        ...

    def describe_run(self, run_id: str, text: str) -> None:
        """What the run's page says of it, Markdown; replaces what it said before."""
        ...

    def log_folder(self, run_id: str, folder: Path, artifact_path: str) -> None:
        """Store a folder's files under `artifact_path` of the run."""
        ...

    def log_figure(self, run_id: str, figure: Any, artifact_file: str) -> None:
        """Store a matplotlib figure (name ends in .png)."""
        ...

    def finish(self, run_id: str, outcome: Outcome, reason: str) -> None:
        """End the run: its status, and the tags `outcome` and `outcome_reason`."""
        ...


class Tracker(RunLog, Protocol):
    """Runs and the registry of adapters. Failures of the registry raise."""

    tracking_uri: str

    def check(self) -> None:
        """Raise ClusterError within about 5 seconds where the store cannot be used: unreachable, or
        credentials refused.
        """
        ...

    def ensure_experiment(self, name: str, description: str) -> str:
        """Id of the experiment, made if it is not there. Call it once, from the driver."""
        ...

    def start_run(
        self,
        experiment_name: str,
        *,
        run_name: str,
        config: Mapping[str, Any],
        params: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        """Run id of a new run; `config` (the resolved configuration) is stored as config.json,
        `params` are copied down to every child. The tag `kind` says what the run is of.
        """
        ...

    def resume_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set an interrupted run to running again."""
        ...

    def find_run(self, experiment_name: str, tags: Mapping[str, str]) -> str | None:
        """The latest run of the experiment that carries all these tags; None where there is
        none.
        """
        ...

    def run_tags(self, run_id: str) -> dict[str, str]: ...

    def read_dict(self, run_id: str, artifact_file: str) -> dict[str, Any]:
        """What `log_dict` stored. Raises RegistryError where it is not there."""
        ...

    def run_url(self, run_id: str) -> str:
        """Web page of the run; empty where the store has no web page."""
        ...

    def experiment_url(self, experiment_name: str) -> str: ...

    def save_views(self, experiment_name: str, views: Sequence[View]) -> None:
        """Keep named views with the experiment: they stand in the menu of its page."""
        ...

    def view_url(self, experiment_name: str, view: View) -> str:
        """Page of the experiment as the view shows it; empty where the store has no web page."""
        ...

    def model_url(self, model_name: str, version: int) -> str: ...

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
        """Register an adapter folder (artifact format 1) as a version of `model_name`; `package`
        says how it answers (components/inference/package.py). A new version, but where a search
        registered this very run before (`registration_of`): then that one. Any failure raises.

        `headline`: the first line of the version's page (left out: made of `metrics` and `params`),
        `description`: what stands below it; `title`: what the trained model is called among others
        of its run; `measured`: who measured the metrics (left out: the run itself, at step 0).
        """
        ...

    def download_adapter(self, model_uri: str, folder: Path) -> Path:
        """The plain artifact folder behind models:/name@alias, models:/name/3 or runs:/<run id>,
        below `folder`; no code of the model is run.
        """
        ...

    def download_folder(self, run_id: str, artifact_path: str, folder: Path) -> Path:
        """What `log_folder` stored, as `folder`. Raises RegistryError where it is not there."""
        ...

    def resolve(self, model_uri: str) -> RegisteredVersion:
        """The version behind models:/name@alias or models:/name/3. Raises RegistryError where it
        does not exist.
        """
        ...

    def versions(self, model_name: str) -> tuple[RegisteredVersion, ...]:
        """All versions, oldest first. Raises RegistryError where the model does not exist."""
        ...

    def promote(self, model_name: str, version: int) -> RegisteredVersion:
        """Make `version` the champion and remember the one before. Promoting the champion changes
        nothing.
        """
        ...

    def rollback(self, model_name: str) -> RegisteredVersion:
        """Make the champion before this one the champion again. Raises RegistryError where there
        was none.
        """
        ...

    def annotate(
        self,
        version: RegisteredVersion,
        *,
        tags: Mapping[str, str],
        line: str,
        headline: str | None = None,
    ) -> None:
        """Set tags of a version, and put a line below the first of its description, which becomes
        `headline` where one is given.
        """
        ...

    def record(self, model_name: str, entry: HistoryEntry) -> None:
        """Add to the model's history. One writer at a time: hold the model's lease."""
        ...

    def history(self, model_name: str) -> tuple[HistoryEntry, ...]:
        """Everything that was recorded, oldest first. Raises RegistryError where the model does not
        exist.
        """
        ...


def registration_of(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """What makes two registrations of a run the same one: search and settings of the trial. None
    where the tags do not say both.
    """
    search, config = tags.get("search_id"), tags.get("config_sha256")
    return (search, config) if search and config else None


def param_text(value: Any) -> str:
    """A param's value as text: strings as they are, everything else as JSON, so that 0.005, null
    and true read as in the YAML.
    """
    import json

    return value if isinstance(value, str) else json.dumps(value)


def parse_model_uri(model_uri: str) -> tuple[str, str]:
    """(name, version or @alias) of models:/name/3 or models:/name@alias. Raises ConfigError for
    anything else.
    """
    body = model_uri.removeprefix("models:/")
    name, separator, rest = body.partition("@") if "@" in body else body.partition("/")
    if (
        not model_uri.startswith("models:/")
        or not name
        or not rest
        or "/" in name
        or (separator == "/" and not rest.isdigit())
    ):
        raise ConfigError(
            f"model: '{model_uri}' names no registered version. Give models:/<name>@champion or "
            "models:/<name>/<version>."
        )
    return name, f"@{rest}" if separator == "@" else rest


def check_model_name(name: str) -> None:
    """Raise ConfigError where MLflow would refuse the name of a registered model."""
    if len(name) > LONGEST_MODEL_NAME:
        raise ConfigError(
            f"registry.model_name: '{name[:40]}...' has {len(name)} characters; give at most "
            f"{LONGEST_MODEL_NAME}."
        )
    if not name.strip() or any(character in name for character in "/:@") or name in (".", ".."):
        raise ConfigError(
            f"registry.model_name: '{name}' cannot be registered. Use letters, digits, dot, dash "
            "and underscore; no '/', ':' or '@'."
        )
