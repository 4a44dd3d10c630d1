"""The configuration of a comparison: methods x tasks x seeds under one harness, every method with a
search of the same size.

One YAML file is one `ComparisonConfig`. A cell of it (task, method, point, seed) is an ordinary
`TrainConfig`, so that whatever holds for a trial of a search holds for a cell. The fact a newcomer
would get wrong: points are listed, not drawn. A budget of three draws could miss the sizes of one
method and hit those of another; a list shows what each method got.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from components.adapters.methods import AdapterConfig
from components.config.cluster import ClusterConfig
from components.config.experiment import TrainConfig
from components.config.loading import apply_override, check_no_secrets, read_yaml
from components.config.registry import RegistryConfig
from components.config.search import holds_repeats
from components.config.space import FIXED_IN_A_SLOT
from components.errors import ConfigError
from components.settings import (
    Config,
    Count,
    Name,
    PositiveInt,
    Seed,
    check_path,
    resolved,
    set_path,
    validate,
)
from components.tasks import task_named

Settings = dict[str, Any]
"""Sections of a TrainConfig as plain values."""


class MethodConfig(Config):
    """One method that takes part."""

    adapter: AdapterConfig
    """The adapter at its fixed settings; a point may change them."""
    points: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)]
    """The points of its search, each {dotted path: value}: its learning rates and, where it has
    one, its size. As many as search.points.
    """


class ComparisonSearch(Config):
    """The search by which every method chooses its point on validation documents."""

    points: PositiveInt
    """Points per method and task, the same number for all."""
    seed: Seed = 10
    """Seed of every search training."""
    settings: Settings = Field(default_factory=dict)
    """Sections that differ from `base` in search trainings only, the same for all methods:
    {training: {epochs: 1}}.
    """


class ComparisonConfig(Config):
    """One comparison."""

    name: Name
    """Name of the comparison, in MLflow too."""
    description: str = ""
    """One line for people."""
    base: Settings
    """Settings of every training (the sections of an experiment but seed and adapter); `data` may
    be left to the tasks.
    """
    tasks: Annotated[dict[Name, Settings], Field(min_length=1)]
    """Task -> the sections in which it differs from `base`, its data among them."""
    methods: Annotated[dict[Name, MethodConfig], Field(min_length=1)]
    """Name in the table -> method."""
    search: ComparisonSearch
    """How each method's point is chosen."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    """Seeds of the trainings at the chosen point, which alone see the test documents. One that
    equals search.seed takes the search's training where settings are equal.
    """
    level: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of the confidence intervals; a difference is called significant where its corrected
    p-value is below 1 - level.
    """
    resamples: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
    """Resamples of the test documents in each paired bootstrap."""
    concurrent_slots: Annotated[PositiveInt, Field(le=10_000)] = 1
    """Trainings that run at the same time."""
    max_failures: Count = 1
    """How often a training whose own code raised is started again from its last checkpoint. Lost
    workers have a budget of their own (components/jobs/repetition.py).
    """
    cluster: ClusterConfig = ClusterConfig()
    registry: RegistryConfig = RegistryConfig()

    @model_validator(mode="after")
    def _same_budget(self) -> "ComparisonConfig":
        for name, method in self.methods.items():
            if len(method.points) != self.search.points:
                raise ValueError(
                    f"methods.{name}.points: {len(method.points)} points, but search.points is "
                    f"{self.search.points}: every method gets the same budget. Add or remove "
                    "points."
                )
        if holds_repeats(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} holds a seed twice; give different ones")
        for name, method in self.methods.items():
            if holds_repeats(method.points):
                raise ValueError(
                    f"methods.{name}.points holds a point twice, which would be one point less "
                    "than the others get; change it"
                )
        return self

    def train_config(
        self, task: str, method: str, *, point: Mapping[str, Any], seed: int, searching: bool
    ) -> TrainConfig:
        """The training of one cell. Raises ConfigError where the settings of task, method and point
        do not make a valid one.
        """
        values = _merged(self.base, self.tasks[task])
        if searching:
            values = _merged(values, self.search.settings)
        values |= {"seed": seed, "adapter": resolved(self.methods[method].adapter)}
        for path, value in point.items():
            set_path(values, path, value)
        try:
            return validate(TrainConfig, values)
        except ConfigError as error:
            raise ConfigError(f"{_where(task, method, point)}: {error}") from error

    def points(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """(task, method, point) of every search training."""
        for task in self.tasks:
            for name, method in self.methods.items():
                for point in method.points:
                    yield task, name, point


def load_comparison(path: str | Path, overrides: Sequence[str] = ()) -> ComparisonConfig:
    """Read a comparison's file and apply `a.b=value` overrides (`base.training.epochs=2`,
    `tasks.<task>.data.files.train=PATH`).

    Raises ConfigError: the file is missing or is no comparison, a path is unknown, or any cell's
    settings are refused. Every cell is made once here.
    """
    values = read_yaml(Path(path))
    if not is_comparison(values):
        raise ConfigError(
            f"{path} is no comparison: it has no section 'methods'. To run it as an experiment: "
            f"prefixprop search {path}"
        )
    for override in overrides:
        apply_override(values, override, check_comparison_path)
    check_no_secrets(values)
    config = validate(ComparisonConfig, values)
    check_comparison(config)
    return config


def is_comparison(values: Mapping[str, Any]) -> bool:
    """Whether the content of a YAML file is a comparison rather than an experiment."""
    return "methods" in values


def check_comparison(config: ComparisonConfig) -> None:
    """Make every cell's settings once. Raises ConfigError where one is refused, or where the
    trainings could not share the loaded backbone.
    """
    for where, settings in _sections(config):
        for path in _leaves(settings):
            if path.split(".")[0] in ("seed", "adapter"):
                raise ConfigError(
                    f"{where}.{path}: the comparison sets it for every training. Write it into "
                    "methods or seeds."
                )
            check_path(path, TrainConfig, below=f"{where}.")
    _check_points(config)
    loaded = set()
    for task, name, point in config.points():
        for searching in (True, False):
            cell = config.train_config(
                task, name, point=point, seed=config.seeds[0], searching=searching
            )
            if not task_named(cell.data.task).has_classes:
                raise ConfigError(
                    f"tasks.{task}.data.task: the tables of a comparison are of classes, and "
                    f"{cell.data.task} has none. Use prefixprop search."
                )
            shared = (
                cell.backbone,
                cell.zero,
                cell.training.precision,
                cell.training.gradient_checkpointing,
            )
            loaded.add(
                tuple(
                    part if isinstance(part, str | bool) else part.model_dump_json()
                    for part in shared
                )
            )
    if len(loaded) > 1:
        raise ConfigError(
            "base: backbone, zero, training.precision and training.gradient_checkpointing must be "
            "the same in all tasks and in search.settings, because all trainings share the loaded "
            "backbone. "
            "Run one comparison per value."
        )


def _check_points(config: ComparisonConfig) -> None:
    for name, method in config.methods.items():
        for path in {path for point in method.points for path in point}:
            check_path(path, TrainConfig, below=f"methods.{name}.points: ")
            if (
                any(path == fixed or path.startswith(f"{fixed}.") for fixed in FIXED_IN_A_SLOT)
                or path == "seed"
            ):
                raise ConfigError(
                    f"methods.{name}.points: '{path}' is the same for all methods of a comparison. "
                    "Set it in base or in a task."
                )
            if path.split(".")[0] == "training":
                raise ConfigError(
                    f"methods.{name}.points: '{path}' is part of the budget, which is the same for "
                    "all points. Set it in base, a task or search.settings."
                )


def check_comparison_path(path: str) -> None:
    """Raise ConfigError with the nearest known path unless `path` names a setting of a
    comparison.
    """
    section, _, rest = path.partition(".")
    if section == "base":
        check_path(rest, TrainConfig, below="base.")
    elif section == "tasks":
        task, _, setting = rest.partition(".")
        check_path(setting, TrainConfig, below=f"tasks.{task}.")
    elif path.startswith("search.settings."):
        check_path(path.removeprefix("search.settings."), TrainConfig, below="search.settings.")
    elif section == "methods":
        method, _, setting = rest.partition(".")
        if setting != "points":
            check_path(setting, TrainConfig, below=f"methods.{method}.")
    else:
        check_path(path, ComparisonConfig)


def _sections(config: ComparisonConfig) -> Iterator[tuple[str, Settings]]:
    yield "base", config.base
    yield "search.settings", config.search.settings
    for task, settings in config.tasks.items():
        yield f"tasks.{task}", settings


def _leaves(settings: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Settings:
    """`above` laid over `below`, section by section; neither is changed."""
    merged = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = (
            _merged(merged[name], value)
            if both
            else _merged(value, {})
            if isinstance(value, Mapping)
            else value
        )
    return {
        name: _merged(value, {}) if isinstance(value, Mapping) else value
        for name, value in merged.items()
    }


def _where(task: str, method: str, point: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{path}={value}" for path, value in point.items())
    return f"task {task}, method {method}" + (f", point {shown}" if shown else "")
