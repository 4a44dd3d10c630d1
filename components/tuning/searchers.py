"""Searchers: which point of the space becomes the next trial.

A searcher is asked with the results so far and keeps nothing of its own: the same results give the
same point. So an interrupted search, which meets its earlier points first, goes on as if it had
never stopped.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from components.config.experiment import ExperimentConfig
from components.config.search import Choice, Domain, Grid, Integer, LogUniform, Uniform
from components.errors import ConfigError
from components.jobs.events import Evaluated, Event, Failed, Trained
from components.jobs.repetition import given_up
from components.settings import did_you_mean

Point = dict[str, Any]
"""Config path -> value."""
FRUITLESS_DRAWS = 1000
"""Draws in a row without a new point, after which a space counts as exhausted."""


@dataclass(frozen=True)
class Result:
    """A point that was asked and what is known of its trial. `value`: its best so far of
    training.metric, None before its first evaluation; `outcome`: "running" until it ended.
    """

    point: Mapping[str, Any]
    value: float | None = None
    outcome: str = "running"

    def after(self, event: Event, *, metric: str) -> "Result":
        """What is known after an event of the trial."""
        match event:
            case Evaluated(report=report) if report.is_best:
                return replace(self, value=report.metrics[metric])
            case Trained(outcome=outcome):
                return replace(self, outcome=outcome)
            case Failed():
                return replace(self, outcome=given_up(event))
        return self


class Searcher(Protocol):
    """Asked whenever a slot is free, in the order of `results`."""

    def ask(self, results: Sequence[Result]) -> Point | None:
        """The next point, other than all before it; None where the search is to end. `results`:
        of all points asked so far, of an earlier part of the same search too.
        """
        ...


@dataclass(frozen=True)
class Listed:
    """A searcher whose points do not depend on results."""

    points: tuple[Point, ...]

    def ask(self, results: Sequence[Result]) -> Point | None:
        return self.points[len(results)] if len(results) < len(self.points) else None


def sampled(domain: Domain) -> Any:
    """Tune's domain that is drawn from."""
    from ray import tune

    match domain:
        case Choice(choice=values):
            return tune.choice(list(values))
        case Grid(grid=values):
            return tune.grid_search(list(values))
        case LogUniform(log_uniform=(low, high)):
            return tune.loguniform(low, high)
        case Uniform(uniform=(low, high)):
            return tune.uniform(low, high)
        case Integer(integer=(low, high)):
            return tune.randint(low, high + 1)  # Tune leaves the upper bound out
    raise AssertionError(domain)


def _enumerated(domain: Domain) -> Any:
    from ray import tune

    match domain:
        case Choice(choice=values) | Grid(grid=values):
            return tune.grid_search(list(values))
        case Integer(integer=(low, high)):
            return tune.grid_search(list(range(low, high + 1)))
    raise AssertionError(domain)  # refused by components.config.space


def random_search(config: ExperimentConfig) -> Listed:
    """Independent draws without repeats: a second trial of the same settings would tell nothing
    new. Fewer than asked for where the space has no more.
    """
    draw = np.random.default_rng(config.seed)
    space = {path: sampled(domain) for path, domain in config.search.space.items()}
    points: dict[str, Point] = {}
    useful = fruitless = 0
    while useful < config.search.num_trials and fruitless < FRUITLESS_DRAWS:
        before = len(points)
        for point in variants(space, draw):
            points.setdefault(key_of(point), point)
        useful, fruitless = (useful + 1, 0) if len(points) > before else (useful, fruitless + 1)
    return Listed(tuple(points.values()))


def grid_search(config: ExperimentConfig) -> Listed:
    """Every combination once."""
    space = {path: _enumerated(domain) for path, domain in config.search.space.items()}
    return Listed(tuple(variants(space, np.random.default_rng(config.seed))))


def optuna_search(config: ExperimentConfig) -> Searcher:
    """Tree-structured Parzen estimation by Optuna, through Tune's own searcher."""
    from components.tuning.optuna_searcher import OptunaSearcher

    return OptunaSearcher(config)


def variants(space: Mapping[str, Any], draw: np.random.Generator) -> list[Point]:
    """The points that Tune makes of a space in one draw: one, or every combination of its grids."""
    from ray.tune.search.variant_generator import generate_variants

    return [point for _, point in generate_variants(dict(space), random_state=draw)]


def key_of(point: Mapping[str, Any]) -> str:
    """Equal for equal points."""
    return json.dumps(point, sort_keys=True)


SEARCHERS: dict[str, Callable[[ExperimentConfig], Searcher]] = {
    "random": random_search,
    "grid": grid_search,
    "optuna": optuna_search,
}


def check_searcher(config: ExperimentConfig) -> None:
    """Raise ConfigError where no searcher has the name, or it is not installed or cannot search
    this space. Imports neither Ray nor the searcher's own library.
    """
    name, known = config.search.searcher, tuple(SEARCHERS)
    if name not in SEARCHERS:
        hint = did_you_mean(name, known)
        raise ConfigError(f"search.searcher: '{name}' is unknown.{hint} Known: {', '.join(known)}.")
    if name == "optuna":
        from components.tuning.optuna_searcher import check

        check(config)
