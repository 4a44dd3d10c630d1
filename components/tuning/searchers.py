"""Searchers: which points of the space become trials. The draws depend on the experiment's seed alone, so that an interrupted search meets the same points again."""

from collections.abc import Callable
from typing import Any

from components.config.schema import Choice, Domain, ExperimentConfig, Grid, Integer, LogUniform, Uniform


def _sampled(domain: Domain) -> Any:
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


def random_search(config: ExperimentConfig) -> tuple[dict[str, Any], int]:
    """Independent draws; returns Tune's parameter space and the number of draws."""
    return {path: _sampled(domain) for path, domain in config.search.space.items()}, config.search.num_trials


def grid_search(config: ExperimentConfig) -> tuple[dict[str, Any], int]:
    """Every combination once; returns Tune's parameter space and 1."""
    return {path: _enumerated(domain) for path, domain in config.search.space.items()}, 1


SEARCHERS: dict[str, Callable[[ExperimentConfig], tuple[dict[str, Any], int]]] = {"random": random_search, "grid": grid_search}
