"""Searchers: which points of the space become trials. The draws depend on the experiment's seed
alone, so that an interrupted search meets the same points again.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from components.config.experiment import ExperimentConfig
from components.config.search import Choice, Domain, Grid, Integer, LogUniform, Uniform

Point = dict[str, Any]
"""Config path -> value."""
FRUITLESS_DRAWS = 1000
"""Draws in a row without a new point, after which a space counts as exhausted."""


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


def random_search(config: ExperimentConfig) -> list[Point]:
    """Independent draws without repeats: a second trial of the same settings would tell nothing
    new. Fewer than asked for where the space has no more.
    """
    draw = np.random.default_rng(config.seed)
    space = {path: _sampled(domain) for path, domain in config.search.space.items()}
    points: dict[str, Point] = {}
    useful = fruitless = 0
    while useful < config.search.num_trials and fruitless < FRUITLESS_DRAWS:
        before = len(points)
        for point in _variants(space, draw):
            points.setdefault(json.dumps(point, sort_keys=True), point)
        useful, fruitless = (useful + 1, 0) if len(points) > before else (useful, fruitless + 1)
    return list(points.values())


def grid_search(config: ExperimentConfig) -> list[Point]:
    """Every combination once."""
    return _variants(
        {path: _enumerated(domain) for path, domain in config.search.space.items()},
        np.random.default_rng(config.seed),
    )


def _variants(space: dict[str, Any], draw: np.random.Generator) -> list[Point]:
    """The points that Tune makes of a space in one draw: one, or every combination of its grids."""
    from ray.tune.search.variant_generator import generate_variants

    return [point for _, point in generate_variants(space, random_state=draw)]


SEARCHERS: dict[str, Callable[[ExperimentConfig], list[Point]]] = {
    "random": random_search,
    "grid": grid_search,
}
