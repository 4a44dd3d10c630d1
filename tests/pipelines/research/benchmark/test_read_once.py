"""The arithmetic of the `read_once` benchmark: parts that ran, as if they had run whole."""

from pathlib import Path

import pytest

from components.config import ExperimentConfig, validate
from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.read_once import (
    case_of,
    experiment_values,
    lengthened,
    of_all_epochs,
    run,
    with_epochs,
    with_one_point,
)
from pipelines.research.benchmark.search import grid, read_once
from tests.pipelines.research.benchmark.test_search import side, trial


def test_missing_epochs_cost_as_much_as_a_measured_one_and_the_start_counts_once() -> None:
    assert of_all_epochs({1: 50.0, 2: 70.0}) == 50.0 + 9 * 20.0
    assert of_all_epochs({10: 300.0}) == 300.0


def test_a_peers_trials_are_lengthened_one_after_the_other() -> None:
    ran = side(
        [trial(10, 30, training=5), trial(30, 50, training=7)], concurrent=1, wall_seconds=60
    )
    whole = lengthened(ran, 1)
    assert [each.training_seconds for each in whole.trials] == [50.0, 70.0]
    assert [(each.started, each.ended) for each in whole.trials] == [(10, 75.0), (75.0, 158.0)]
    assert whole.wall_seconds == 60 + 45 + 63
    assert lengthened(ran, 10) == ran


def test_report_holds_the_grid_against_one_trial_and_the_peers_pace() -> None:
    once = side([trial(5, 100) for _ in range(24)], concurrent=24, wall_seconds=100.0)
    peer = side(
        [trial(100.0 * index, 100.0 * index + 100) for index in range(4)],
        concurrent=1,
        wall_seconds=400.0,
    )
    two_way = {
        epochs: side([trial(0, 1)], concurrent=1, wall_seconds=20.0 + 18 * epochs)
        for epochs in (1, 2)
    }
    for each in (once, *two_way.values()):
        object.__setattr__(each, "cpu_seconds", each.wall_seconds)
    case = case_of(once, two_way, peer)
    assert case["share_of_one_two_way_trial"] == case["share_in_processor_time"] == 0.5
    assert case["ratio"] == pytest.approx(2400.0 / 100.0)


def test_experiments_are_valid_and_the_part_of_the_grid_is_one_point(tmp_path: Path) -> None:
    values = experiment_values(tmp_path, tmp_path)
    together = validate(ExperimentConfig, read_once(values, beside=24))
    assert together.search.trials_per_slot == 24
    point = grid()[12]
    alone = validate(ExperimentConfig, with_epochs(with_one_point(values, point), 2))
    assert alone.training.epochs == 2
    space = alone.model_dump()["search"]["space"]
    assert space == {path: {"choice": (value,)} for path, value in point.items()}


def test_generated_documents_are_no_answer() -> None:
    with pytest.raises(ValueError, match="--data"):
        run(BenchmarkOptions(), say=print)
