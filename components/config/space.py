"""The search space: checked whole before anything starts, and its points turned into training configurations."""

from collections.abc import Iterator, Mapping
from typing import Any

from components.config.loading import check_path, resolved, set_path, validate
from components.config.schema import Choice, Domain, ExperimentConfig, Grid, Integer, LogUniform, TrainConfig, Uniform
from components.errors import ConfigError

# Every trial slot keeps its backbone and its data between trials: a trial cannot change them.
FIXED_IN_A_SLOT = ("backbone", "data", "zero", "training.precision", "training.gradient_checkpointing")


def check_space(config: ExperimentConfig) -> None:
    """Check that every path exists, may vary between trials, and that every bound and choice yields a valid TrainConfig.

    Raises ConfigError naming `search.space.<path>` and the value refused.
    """
    for path, domain in config.search.space.items():
        where = f"search.space.{path}"
        try:
            check_path(path, TrainConfig)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        fixed = next((prefix for prefix in FIXED_IN_A_SLOT if path == prefix or path.startswith(prefix + ".")), None)
        if fixed is not None:
            raise ConfigError(
                f"{where}: '{fixed}' stays the same within one search, because trials share the loaded backbone and data. Run one search per value."
            )
        if config.search.searcher == "grid" and isinstance(domain, LogUniform | Uniform):
            raise ConfigError(f"{where}: the grid searcher needs values to enumerate. Use {{choice: [...]}} or search.searcher=random.")
        for value in corner_values(domain):
            try:
                trial_config(config, {path: value})
            except ConfigError as error:
                raise ConfigError(f"{where}: value {value!r} is refused: {error}") from error


def corner_values(domain: Domain) -> tuple[Any, ...]:
    """The values of a domain that bound it: every choice, or low and high."""
    match domain:
        case Choice(choice=values) | Grid(grid=values):
            return values
        case LogUniform(log_uniform=bounds) | Uniform(uniform=bounds) | Integer(integer=bounds):
            return bounds
    raise AssertionError(domain)


def corners(config: ExperimentConfig) -> Iterator[TrainConfig]:
    """One TrainConfig per bounding value of every path, all else at the experiment's own values, the largest prefix included."""
    yield config.train_config()
    for path, domain in config.search.space.items():
        for value in corner_values(domain):
            yield trial_config(config, {path: value})


def trial_config(config: ExperimentConfig, point: Mapping[str, Any]) -> TrainConfig:
    """The training configuration at a point {dotted path: value} of the space; raises ConfigError where it is invalid."""
    values = resolved(config.train_config())
    for path, value in point.items():
        set_path(values, path, value)
    return validate(TrainConfig, values)
