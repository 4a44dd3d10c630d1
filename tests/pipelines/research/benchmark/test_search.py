"""The arithmetic of the `search` benchmark: what is measured must not flatter either side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from pipelines.research.benchmark.search import (
    CASES,
    SideResult,
    experiment_values,
    grid,
    largest_difference,
    read_once,
    spread_over,
)
from pipelines.research.benchmark.search_settings import (
    SideSettings,
    TrialTimes,
    read_records,
    read_settings,
    write_records,
    write_settings,
)


def trial(
    started: float,
    ended: float,
    *,
    training: float = 1.0,
    point: Mapping[str, Any] | None = None,
    loss: float = 0.5,
    step: int = 4,
) -> TrialTimes:
    return TrialTimes(
        point or {"adapter.prefix_length": int(started)}, started, ended, training, step, loss, loss
    )


def side(trials: list[TrialTimes], *, concurrent: int, wall_seconds: float) -> SideResult:
    return SideResult(
        tuple(trials),
        wall_seconds,
        concurrent,
        peak_memory_bytes=0,
        peak_processes=0,
        cpu_seconds=0.0,
    )


def test_grid_is_the_papers() -> None:
    points = grid()
    assert len(points) == len({tuple(point.values()) for point in points}) == 24
    assert {point["adapter.prefix_length"] for point in points} == {4, 8, 16, 32}
    assert len({point["optimizer.learning_rate"] for point in points}) == 6


def test_part_of_the_grid_is_spread_over_it() -> None:
    chosen = spread_over(grid(), 6)
    assert len(chosen) == 6 and {point["adapter.prefix_length"] for point in chosen} == {
        4,
        8,
        16,
        32,
    }
    assert spread_over(grid(), 24) == grid() == spread_over(grid(), 99)


def test_whole_grid_is_not_extrapolated() -> None:
    whole = side(
        [trial(10.0 + index, 11.0 + index) for index in range(24)], concurrent=1, wall_seconds=40.0
    )
    assert whole.seconds_for(24) == 40.0
    assert whole.values(24)["trials_per_hour"] == 24 / 40.0 * 3600


def test_missing_trials_cost_the_measured_pace() -> None:
    part = side(
        [trial(10.0 * index, 10.0 * index + 10.0) for index in range(4)],
        concurrent=1,
        wall_seconds=50.0,
    )
    assert part.pace_seconds == 10.0
    assert part.seconds_for(24) == 50.0 + 20 * 10.0


def test_trials_that_end_together_do_not_count_as_instant() -> None:
    pairs = [trial(start, start + 20.0) for start in (0.0, 0.0, 20.0, 20.0, 40.0, 40.0)]
    assert side(pairs, concurrent=2, wall_seconds=70.0).pace_seconds == 10.0


def test_time_beyond_training_leaves_the_first_trial_of_each_slot_out() -> None:
    trials = [trial(0.0, 30.0), trial(30.0, 31.5), trial(31.75, 33.0)]
    assert side(trials, concurrent=1, wall_seconds=33.0).beyond_training_seconds == [
        0.5,
        0.5,
    ]  # what lies between two trials counts


def test_difference_is_taken_between_trials_of_the_same_point() -> None:
    ours = [trial(0, 1, point={"a": 1}, loss=0.5), trial(1, 2, point={"a": 2}, loss=0.7)]
    assert largest_difference(ours, [trial(0, 9, point={"a": 2}, loss=0.7)]) == 0.0
    assert largest_difference(ours, [trial(0, 9, point={"a": 1}, loss=0.7)]) == pytest.approx(0.2)
    with pytest.raises(AssertionError, match="steps"):
        largest_difference(ours, [trial(0, 9, point={"a": 1}, step=3)])
    with pytest.raises(KeyError):
        largest_difference(ours, [trial(0, 9, point={"a": 3})])


def test_settings_and_records_survive_their_files(tmp_path: Path) -> None:
    settings = SideSettings("trainers", str(tmp_path), {"name": "toy"}, grid(), 2, "plain")
    write_settings(settings)
    assert read_settings(tmp_path) == settings
    records = [trial(0.0, 1.0), trial(1.0, 2.0)]
    write_records(tmp_path, records)
    assert read_records(tmp_path) == records


def test_experiment_is_valid_for_every_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipelines.research.benchmark.workload._tiny_backbone", lambda folder, tokenizer_of: folder
    )
    for case in CASES:
        (tmp_path / case.name).mkdir()
        config = validate(
            ExperimentConfig,
            values := experiment_values(case.backbone, tmp_path / case.name, steps=case.steps),
        )
        once = validate(ExperimentConfig, read_once(values, beside=24))
        assert once.search.trials_per_slot == 24 and once.training.text_states == "kept"
        assert len(config.search.space) == 2 and config.search.searcher == "grid"
        assert (
            config.backbone.lengthen_to is None
            or config.backbone.lengthen_to >= config.data.max_tokens + 32
        )
