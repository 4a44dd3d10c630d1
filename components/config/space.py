"""The search space: checked whole before anything starts, and its points turned into training
configurations.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from components.config.experiment import ExperimentConfig, TrainConfig
from components.config.search import MOST_TRIALS, Choice, Domain, Grid, Integer, LogUniform, Uniform
from components.errors import ConfigError
from components.settings import check_path, resolved, set_path, validate

# Every trial slot keeps its backbone and its data between trials: a trial cannot change them.
FIXED_IN_A_SLOT = (
    "backbone",
    "data",
    "zero",
    "training.precision",
    "training.gradient_checkpointing",
)
MOST_COMBINATIONS = 4096


def check_space(config: ExperimentConfig) -> None:
    """Check that every path exists, may vary between trials, and that every bound and choice yields
    a valid TrainConfig, alone and together.

    Raises ConfigError naming `search.space.<path>` and the value refused.
    """
    for path, domain in config.search.space.items():
        where = f"search.space.{path}"
        try:
            check_path(path, TrainConfig)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        fixed = next(
            (
                prefix
                for prefix in FIXED_IN_A_SLOT
                if path == prefix or path.startswith(prefix + ".")
            ),
            None,
        )
        if fixed is not None:
            raise ConfigError(
                f"{where}: '{fixed}' stays the same within one search, because trials share the "
                "loaded backbone and data. Run one search per value."
            )
        if config.search.searcher == "grid" and isinstance(domain, LogUniform | Uniform):
            raise ConfigError(
                f"{where}: the grid searcher needs values to enumerate. Use {{choice: [...]}} or "
                "search.searcher=random."
            )
        _check_values(config, path)
    _check_number_of_trials(config)
    for point in combinations(config):
        try:
            trial_config(config, point)
        except ConfigError as error:
            raise ConfigError(
                f"search.space: {named(point)} together are refused: {error} Take one of the "
                "values out."
            ) from error


def _check_number_of_trials(config: ExperimentConfig) -> None:
    """Grids multiply, and all their points are listed before the first trial starts."""
    grids = {
        path: domain_size(domain)
        for path, domain in config.search.space.items()
        if config.search.searcher == "grid" or isinstance(domain, Grid)
    }
    if config.search.searcher != "grid":
        grids = {"search.num_trials": config.search.num_trials, **grids}
    if (trials := math.prod(grids.values())) > MOST_TRIALS:
        shown = " x ".join(f"{path} {size:,}" for path, size in grids.items())
        raise ConfigError(
            f"search.space: {shown} are {trials:,} trials, more than {MOST_TRIALS:,}. Give fewer "
            "values."
        )


def domain_size(domain: Domain) -> int:
    """How many values a domain has; of a continuous one its two bounds."""
    values = corner_values(domain)
    return values[1] - values[0] + 1 if isinstance(domain, Integer) else len(values)


def _check_values(config: ExperimentConfig, path: str) -> None:
    """Each value alone, or, where it needs another path's value, with the first values of the
    others.
    """
    first = {each: corner_values(domain)[0] for each, domain in config.search.space.items()}
    for value in corner_values(config.search.space[path]):
        try:
            trial_config(config, {path: value})
        except ConfigError as error:
            try:
                trial_config(config, first | {path: value})
            except ConfigError:
                raise ConfigError(
                    f"search.space.{path}: value {value!r} is refused: {error}"
                ) from error


def corner_values(domain: Domain) -> tuple[Any, ...]:
    """The values of a domain that bound it: every choice, or low and high."""
    match domain:
        case Choice(choice=values) | Grid(grid=values):
            return values
        case LogUniform(log_uniform=bounds) | Uniform(uniform=bounds) | Integer(integer=bounds):
            return bounds
    raise AssertionError(domain)


def combinations(config: ExperimentConfig) -> Iterator[dict[str, Any]]:
    """Points that bound the space: every combination of its paths' values, of which numbers give
    their smallest and largest. Not more than MOST_COMBINATIONS of them.
    """
    space = config.search.space
    values = (_bounds(corner_values(domain)) for domain in space.values())
    return (
        dict(zip(space, each, strict=True)) for each in islice(product(*values), MOST_COMBINATIONS)
    )


def _bounds(values: tuple[Any, ...]) -> tuple[Any, ...]:
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    return tuple(dict.fromkeys((min(values), max(values)))) if numbers else values


def named(point: Mapping[str, Any]) -> str:
    """A point for a message: adapter.prefix_length = 8, optimizer.learning_rate = 0.001."""
    return ", ".join(f"{path} = {value!r}" for path, value in point.items())


def trial_config(config: ExperimentConfig, point: Mapping[str, Any]) -> TrainConfig:
    """The training configuration at a point {dotted path: value} of the space; raises ConfigError
    where it is invalid.
    """
    values = resolved(config.train_config())
    for path, value in point.items():
        set_path(values, path, value)
    return validate(TrainConfig, values)
