"""Searchers and trial schedulers: the tables agree with the schema, draws stay inside their
domains.
"""

import typing
from typing import Any

from components.config import ExperimentConfig, trial_config, validate
from components.config.search import SearchConfig
from components.config.steps import most_evaluations
from components.tuning.searchers import SEARCHERS, Result
from components.tuning.trial_schedulers import TIME_ATTRIBUTE, TRIAL_SCHEDULERS


def experiment(**search: Any) -> ExperimentConfig:
    values = {
        "name": "toy",
        "backbone": {"source": "local", "name_or_path": "none", "family": "longformer"},
        "data": {"files": {"train": "none.jsonl"}},
        "search": search,
    }
    return validate(ExperimentConfig, values)


def drawn(config: ExperimentConfig) -> list[dict[str, Any]]:
    """All points of a searcher that does not look at values."""
    searcher, results = SEARCHERS[config.search.searcher](config), list[Result]()
    while (point := searcher.ask(results)) is not None:
        results.append(Result(point))
    return [dict(result.point) for result in results]


def literal(name: str) -> set[str]:
    return set(typing.get_args(SearchConfig.model_fields[name].annotation))


def test_the_table_of_trial_schedulers_agrees_with_the_schema() -> None:
    assert set(TRIAL_SCHEDULERS) == literal("trial_scheduler")


def test_grid_is_every_combination_once() -> None:
    space = {
        "adapter.prefix_length": {"integer": [2, 4]},
        "optimizer.learning_rate": {"choice": [1e-3, 1e-2]},
        "optimizer.weight_decay": {"grid": [0.0, 0.1]},
    }
    points = drawn(experiment(searcher="grid", space=space))
    assert len(points) == len({tuple(point.values()) for point in points}) == 3 * 2 * 2


def test_random_draws_stay_inside_their_domains() -> None:
    space = {
        "adapter.prefix_length": {"integer": [2, 4]},
        "optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]},
        "optimizer.weight_decay": {"uniform": [0.0, 0.1]},
        "head.pooling": {"choice": ["mean", "prefix"]},
    }
    points = drawn(experiment(num_trials=60, space=space))
    assert len(points) == 60
    assert {point["adapter.prefix_length"] for point in points} == {2, 3, 4}  # both ends included
    assert all(
        1e-4 <= point["optimizer.learning_rate"] <= 1e-2
        and 0.0 <= point["optimizer.weight_decay"] <= 0.1
        for point in points
    )
    assert (
        sum(point["optimizer.learning_rate"] < 1e-3 for point in points) > 15
    )  # half of them in expectation: uniform in the logarithm
    assert {point["head.pooling"] for point in points} == {"mean", "prefix"}


def test_draws_are_repeated_for_every_value_of_a_grid() -> None:
    space = {
        "adapter.prefix_length": {"grid": [4, 8]},
        "optimizer.learning_rate": {"uniform": [1e-3, 1e-2]},
    }
    points = drawn(experiment(num_trials=3, space=space))
    assert sorted(point["adapter.prefix_length"] for point in points) == [4, 4, 4, 8, 8, 8]


def test_the_seed_decides_the_draws() -> None:
    space = {"optimizer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    assert drawn(experiment(num_trials=5, space=space)) == drawn(
        experiment(num_trials=5, space=space)
    )


def test_every_trial_scheduler_can_be_built_for_short_trials() -> None:
    for build in TRIAL_SCHEDULERS.values():
        assert build(experiment(asha={"grace_evaluations": 5}), 1) is not None


def test_asha_counts_in_evaluations() -> None:
    scheduler = TRIAL_SCHEDULERS["asha"](experiment(), 9)
    assert scheduler._time_attr == TIME_ATTRIBUTE and scheduler._max_t == 9


def test_random_draws_do_not_repeat_a_point_and_end_with_the_space() -> None:
    space = {
        "adapter.prefix_length": {"integer": [2, 4]},
        "optimizer.learning_rate": {"choice": [1e-3, 1e-2]},
    }
    some = drawn(experiment(num_trials=5, space=space))
    assert len(some) == len({tuple(point.values()) for point in some}) == 5
    assert len(drawn(experiment(num_trials=60, space=space))) == 6
    assert drawn(experiment(num_trials=60, space=space))[:5] == some


def test_asha_waits_for_the_longest_trial() -> None:
    """Where epochs are searched, a longer trial is not cut at the experiment's own number of
    evaluations.
    """
    config = experiment(
        searcher="grid",
        space={
            "training.epochs": {"choice": [1, 12]},
            "training.evaluations_per_epoch": {"choice": [1, 2]},
        },
    )
    assert (
        most_evaluations(
            [trial_config(config, point) for point in drawn(config)],
            num_documents=100,
            world_size=1,
        )
        == 24
    )
    cut = trial_config(config, {"training.epochs": 12, "training.max_steps": 30})
    assert most_evaluations([cut], num_documents=100, world_size=1) == 2
