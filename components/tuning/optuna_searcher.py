"""Optuna's tree-structured Parzen estimator (TPE) as a searcher, by Ray Tune's own OptunaSearch.

A study is made anew for every point, of all results so far and a seed that counts points:
milliseconds beside minutes of training, and the next point follows from the results alone, after a
resumption too. With several slots the results that are in when a point is asked depend on which
trial ended
first, so there two runs of one search may choose differently; the points that were asked are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from components.config.experiment import ExperimentConfig
from components.config.search import Choice, Domain, Grid
from components.errors import ConfigError
from components.tuning.searchers import (
    FRUITLESS_DRAWS,
    Point,
    Result,
    key_of,
    sampled,
    variants,
)

FIRST_DRAWS = 10
"""Random points before the estimator is asked, as in Optuna; a quarter of a smaller budget."""
TRIES = 20
"""Suggestions that were asked already, after which a point is drawn at random: a space of few
choices soon has the best ones taken.
"""


def check(config: ExperimentConfig) -> None:
    """Raise ConfigError where Optuna is not installed, or where the space holds a grid: `grid`
    repeats every draw for each of its values, and a suggestion is one point.
    """
    if find_spec("optuna") is None:
        raise ConfigError(
            "search.searcher: optuna is not installed. Run: pip install 'prefixprop[optuna]', or "
            "take search.searcher=random."
        )
    for path, domain in config.search.space.items():
        if isinstance(domain, Grid):
            raise ConfigError(
                f"search.space.{path}: the optuna searcher suggests one value at a time and cannot "
                f"repeat a draw for each of a grid. Write {{choice: {list(domain.grid)}}}."
            )


@dataclass(frozen=True)
class OptunaSearcher:
    """See Searcher. Asks for search.num_trials points, none of them twice."""

    config: ExperimentConfig

    def __post_init__(self) -> None:
        check(self.config)

    def ask(self, results: Sequence[Result]) -> Point | None:
        if len(results) >= self.config.search.num_trials:
            return None
        taken = {key_of(result.point) for result in results}
        for attempt in range(TRIES):
            point = self._suggested(results, attempt)
            if key_of(point) not in taken:
                return point
        draw = np.random.default_rng(_seed(self.config.seed, len(results), TRIES))
        space = {path: sampled(domain) for path, domain in self.config.search.space.items()}
        for _ in range(FRUITLESS_DRAWS):
            (point,) = variants(space, draw)
            if key_of(point) not in taken:
                return point
        return None

    def _suggested(self, results: Sequence[Result], attempt: int) -> Point:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        space, training = self.config.search.space, self.config.training
        budget = self.config.search.num_trials
        sampler = optuna.samplers.TPESampler(
            seed=_seed(self.config.seed, len(results), attempt),
            n_startup_trials=min(FIRST_DRAWS, max(2, budget // 4)),
        )
        domains = OptunaSearch.convert_search_space(
            {path: _suggestible(domain) for path, domain in space.items()}
        )
        search = OptunaSearch(domains, metric=training.metric, mode=training.mode, sampler=sampler)
        for result in results:
            # A trial that diverged or failed has a value that says nothing about where it led to.
            if result.value is not None and result.outcome in ("completed", "stopped"):
                encoded = {
                    path: _encoded(space[path], value) for path, value in result.point.items()
                }
                search.add_evaluated_point(encoded, result.value)
        suggestion = search.suggest(f"{len(results)}-{attempt}")
        assert suggestion is not None
        return {path: _decoded(space[path], suggestion[path]) for path in space}


def _seed(seed: int, asked: int, attempt: int) -> int:
    parts = np.random.SeedSequence([seed & 0xFFFFFFFF, asked, attempt])
    return int(parts.generate_state(1)[0])


def _suggestible(domain: Domain) -> Any:
    """Choices go by their places: Optuna takes no lists and no mappings as values."""
    from ray import tune

    if isinstance(domain, Choice):
        return tune.choice(list(range(len(domain.choice))))
    return sampled(domain)


def _encoded(domain: Domain, value: Any) -> Any:
    if not isinstance(domain, Choice):
        return value
    return [key_of({"": each}) for each in domain.choice].index(key_of({"": value}))


def _decoded(domain: Domain, value: Any) -> Any:
    return domain.choice[value] if isinstance(domain, Choice) else value
