"""What Tune is told when it asks for a suggestion: kept points first, then our searcher's, which
sees results. A searcher is one function and one line in the table.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig
from components.errors import ArtifactError, ConfigError
from components.jobs.events import Evaluated, Event, Trained
from components.training.outcomes import Progress, Report
from components.tuning import searchers
from components.tuning.asked_points import read_points
from components.tuning.asking import EVENTS, TRIAL, Asking
from components.tuning.searchers import SEARCHERS, Point, Result, check_searcher
from tests.components.tuning.test_searchers import experiment

SPACE = {"optimizer.learning_rate": {"log_uniform": [1e-6, 1.0]}}
RATE = "optimizer.learning_rate"


class Halving:
    """A toy: as long as things improve, half the rate of the best so far."""

    def __init__(self, config: ExperimentConfig) -> None:
        self.limit = config.search.num_trials

    def ask(self, results: Sequence[Result]) -> Point | None:
        if len(results) >= self.limit:
            return None
        known = [result for result in results if result.value is not None]
        if not known:
            return {RATE: 0.5 ** (1 + len(results))}
        best = max(known, key=lambda result: result.value or 0.0)
        taken = {result.point[RATE] for result in results}
        rate = best.point[RATE] / 2
        return None if rate in taken else {RATE: rate}


def config_of(**search: Any) -> ExperimentConfig:
    return experiment(space=SPACE, **search)


def asking(folder: Path, config: ExperimentConfig) -> Asking:
    return Asking(config, SEARCHERS[config.search.searcher](config), folder=folder)


def ends(value: float, *, metric: str) -> dict[str, Any]:
    report = Report(1, 1, {metric: value}, is_best=True, done=True, trainable_parameters=1)
    events: tuple[Event, ...] = (
        Evaluated("a", report),
        Trained("a", "completed", "", Progress(), 1, None),
    )
    return {EVENTS: events}


def rates(tune: Asking, count: int, value: Any = lambda rate: -rate) -> list[float]:
    """The rates of the next trials, each ended before the next is asked."""
    found = []
    for _ in range(count):
        trial_id = f"t{len(tune.results)}"
        suggestion = tune.suggest(trial_id)
        if suggestion == Asking.FINISHED:
            break
        found.append(suggestion[TRIAL].point[RATE])
        told = ends(value(found[-1]), metric=tune.config.training.metric)
        tune.on_trial_result(trial_id, told)
        tune.on_trial_complete(trial_id, told)
    return found


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line that adds a searcher."""
    monkeypatch.setitem(searchers.SEARCHERS, "halving", Halving)


def test_a_searcher_sees_results(toy: None, tmp_path: Path) -> None:
    config = config_of(searcher="halving", num_trials=4)
    better_when_small = rates(asking(tmp_path, config), 9)
    assert better_when_small == [0.5, 0.25, 0.125, 0.0625]
    worse_when_small = rates(
        asking(tmp_path / "other", config_of(searcher="halving", num_trials=4)), 9, lambda r: r
    )
    assert worse_when_small == [0.5, 0.25]


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_a_continued_search_meets_its_points_again(searcher: str, tmp_path: Path) -> None:
    config = config_of(searcher=searcher, num_trials=6)
    whole = rates(asking(tmp_path / "whole", config), 9)
    first = rates(asking(tmp_path / "stopped", config), 4)
    assert first == whole[:4] and len(whole) == 6
    assert rates(asking(tmp_path / "stopped", config), 9) == whole
    assert [point[RATE] for point in read_points(tmp_path / "stopped")] == whole


def test_a_search_from_before_points_were_kept_meets_the_same_ones(tmp_path: Path) -> None:
    """Random draws and grids follow from the seed alone."""
    config = config_of(num_trials=5)
    whole = rates(asking(tmp_path, config), 9)
    (tmp_path / "points.json").unlink()
    assert rates(asking(tmp_path, config), 9) == whole


def test_damaged_points_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "points.json").write_text("{")
    with pytest.raises(ArtifactError, match="Leave --resume out to start a new search"):
        asking(tmp_path, config_of())


def test_a_trial_that_tune_stopped_keeps_its_value(tmp_path: Path) -> None:
    tune = asking(tmp_path, config_of())
    tune.suggest("t0")
    metric = tune.config.training.metric
    report = Report(1, 1, {metric: 0.7}, is_best=True, done=False, trainable_parameters=1)
    tune.on_trial_result("t0", {EVENTS: (Evaluated("a", report),)})
    tune.on_trial_complete("t0", {})
    result = tune.results["t0"]
    assert (result.value, result.outcome) == (0.7, "stopped")
    tune.suggest("t1")
    tune.on_trial_complete("t1", error=True)
    assert (tune.results["t1"].value, tune.results["t1"].outcome) == (None, "failed")


def test_an_unknown_searcher_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"search\.searcher: 'optima' is unknown.*'optuna'"):
        check_searcher(config_of(searcher="optima"))
