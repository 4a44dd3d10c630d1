"""The optuna searcher as a thing that is asked: no Ray cluster, no training; results are made
up.
"""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.errors import ConfigError
from components.tuning.searchers import SEARCHERS, Point, Result, Searcher, check_searcher

SPACE = {
    "optimizer.learning_rate": {"log_uniform": [1e-6, 1.0]},
    "adapter.prefix_length": {"integer": [1, 64]},
    "head.pooling": {"choice": ["mean", "prefix"]},
}


def experiment(searcher: str, **changes: Any) -> ExperimentConfig:
    values = {
        "name": "toy",
        "backbone": {"source": "local", "name_or_path": "none", "family": "longformer"},
        "data": {"files": {"train": "none.jsonl"}},
        "search": {"searcher": searcher, "num_trials": 80, "space": SPACE} | changes,
    }
    return validate(ExperimentConfig, values)


def quality(point: Mapping[str, Any]) -> float:
    """1 at rate 1e-2, 16 prefix rows and mean pooling, falling off smoothly."""
    rate = (math.log10(point["optimizer.learning_rate"]) + 2) / 2
    length = (math.log2(point["adapter.prefix_length"]) - 4) / 2
    pooling = 0.0 if point["head.pooling"] == "mean" else 0.3
    return math.exp(-(rate**2) - length**2) - pooling


def asked(searcher: Searcher, value: Callable[[Mapping[str, Any]], float]) -> list[Result]:
    """All results of a search in which each trial has ended before the next is asked."""
    results: list[Result] = []
    while (point := searcher.ask(results)) is not None:
        results.append(Result(point, value(point), "completed"))
    return results


def trials_until(searcher: Searcher, good: float) -> int:
    """Trials until a quality of `good`; one more than there are where none has it."""
    results: list[Result] = []
    while (point := searcher.ask(results)) is not None:
        results.append(Result(point, quality(point), "completed"))
        if quality(point) >= good:
            return len(results)
    return len(results) + 1


def test_it_finds_the_best_in_fewer_trials_than_random_draws() -> None:
    """Seeds 0 to 4, trials until a quality of 0.97, which few points of the space have."""
    needed = {
        name: [trials_until(SEARCHERS[name](seeded(name, seed)), 0.97) for seed in range(5)]
        for name in ("optuna", "random")
    }
    print(needed)
    assert sorted(needed["optuna"])[2] < sorted(needed["random"])[2], needed
    assert sum(needed["optuna"]) < 0.75 * sum(needed["random"]), needed


def seeded(searcher: str, seed: int) -> ExperimentConfig:
    return experiment(searcher).model_copy(update={"seed": seed})


def test_a_continued_search_asks_what_an_uninterrupted_one_asks() -> None:
    config = experiment("optuna", num_trials=20)
    whole = asked(SEARCHERS["optuna"](config), quality)
    for stopped_after in (3, 13):
        again = list(whole[:stopped_after])
        searcher = SEARCHERS["optuna"](config)
        while (point := searcher.ask(again)) is not None:
            again.append(Result(point, quality(point), "completed"))
        assert again == whole


def test_no_point_is_asked_twice_and_a_small_space_ends_the_search() -> None:
    space = {
        "adapter.prefix_length": {"choice": [4, 8, 16]},
        "optimizer.betas": {"choice": [[0.9, 0.99], [0.9, 0.999]]},
    }
    results = asked(SEARCHERS["optuna"](experiment("optuna", space=space)), lambda point: 0.5)
    points = [
        (each.point["adapter.prefix_length"], *each.point["optimizer.betas"]) for each in results
    ]
    assert len(points) == len(set(points)) == 6


def test_points_stay_inside_their_domains() -> None:
    points = [
        each.point
        for each in asked(SEARCHERS["optuna"](experiment("optuna", num_trials=30)), quality)
    ]
    assert all(1e-6 <= point["optimizer.learning_rate"] <= 1.0 for point in points)
    assert all(1 <= point["adapter.prefix_length"] <= 64 for point in points)
    assert {point["head.pooling"] for point in points} <= {"mean", "prefix"}


def test_a_metric_to_be_minimised_is_minimised() -> None:
    config = experiment("optuna", num_trials=40)
    training = config.training.model_copy(update={"metric": "validation/nll", "mode": "min"})
    config = config.model_copy(update={"training": training})
    results = asked(SEARCHERS["optuna"](config), lambda point: -quality(point))
    late = [-(each.value or 0.0) for each in results[-10:]]
    early = [-(each.value or 0.0) for each in results[:10]]
    assert sum(late) > sum(early)


def test_trials_that_diverged_or_still_run_are_no_results() -> None:
    config = experiment("optuna")
    point: Point = {
        "optimizer.learning_rate": 0.5,
        "adapter.prefix_length": 8,
        "head.pooling": "mean",
    }
    searcher = SEARCHERS["optuna"](config)
    running = searcher.ask([Result(point)])
    assert running == searcher.ask([Result(point, 0.9, "diverged")])


def test_a_grid_is_refused_by_name() -> None:
    config = experiment("optuna", space={"adapter.prefix_length": {"grid": [4, 8]}})
    with pytest.raises(
        ConfigError, match=r"^search\.space\.adapter\.prefix_length: .*choice: \[4, 8\]"
    ):
        check_searcher(config)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setattr("components.tuning.optuna_searcher.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"^search\.searcher: .*pip install 'prefixprop\[optuna\]'"
    ):
        SEARCHERS["optuna"](experiment("optuna"))
