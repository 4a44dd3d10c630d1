"""What the comparison with real searches takes from them, on searches that are known exactly: those
that the simulator itself tells.
"""

from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig
from components.simulation import Course, Loss, Simulated, SlotTimes, simulate
from pipelines.research.benchmark.simulated import (
    BETWEEN_KILLS,
    FIRST_KILL,
    RANDOM,
    Case,
    as_timed,
    at_rate_of_first,
    drawn_kills,
    read_timed,
    simulated,
    slot_times,
)
from pipelines.research.benchmark.timed_search import Kill, TimedSearch, TimedTrial, Told
from tests.components.tuning.test_searchers import experiment

TIMES = SlotTimes(start=11.0, further_trial=1.5, restart=23.0)
METRIC = "validation/accuracy"
STEPS, STEP_SECONDS = (10, 20, 30), 0.5
SPACE = {
    "adapter.prefix_length": {"choice": [4, 8]},
    "optimizer.learning_rate": {"choice": [1e-3, 1e-2]},
}


def course(point: Any) -> Course:
    place = point["adapter.prefix_length"] + point["optimizer.learning_rate"]
    return Course(STEPS, (10 * STEP_SECONDS,) * 3, (place,) * 3)


def told(config: ExperimentConfig, slots: int, kills: tuple[Kill, ...] = ()) -> TimedSearch:
    """A simulated search as the driver of a real one would have noted it."""
    losses = [Loss(TIMES.start + kill.seconds, (kill.slot,)) for kill in kills]
    found = simulate(
        config, slots=slots, courses=course, times=TIMES, max_evaluations=3, losses=losses
    )
    trials = tuple(timed(found, number, kills) for number in range(len(found.trials)))
    killed = tuple(TIMES.start + kill.seconds for kill in kills)
    return TimedSearch(found.makespan_seconds, trials, killed, (0.0, 0.0))


def timed(found: Simulated, number: int, kills: tuple[Kill, ...]) -> TimedTrial:
    """Evaluations of a simulated trial; one that was hit goes on when its slot is back."""
    trial, each = found.trials[number], 10 * STEP_SECONDS
    at, notes = trial.started, []
    for index in range(trial.evaluations):
        lost = [TIMES.start + kill.seconds for kill in kills if kill.slot == trial.slot]
        hit = [seconds for seconds in lost if at <= seconds < at + each]
        at = (hit[0] + TIMES.restart if hit else at) + each
        notes.append(Told(at, STEPS[index], each * (index + 1), course(trial.point).values[index]))
    assert notes[-1].at == pytest.approx(trial.ended)
    return TimedTrial(trial.name, trial.point, notes, trial.outcome)


@pytest.mark.parametrize("slots", [1, 2])
def test_what_slots_take_is_found_again(slots: int) -> None:
    config = experiment(space=SPACE, searcher="grid", trial_scheduler="none")
    found = slot_times(told(config, slots, (Kill(0, 27.0),)), slots)
    assert found.start == pytest.approx(11.0)
    assert found.restart == pytest.approx(23.0)
    assert found.further_trial == pytest.approx(1.5)


@pytest.mark.parametrize("kills", [(), (Kill(1, 9.0), Kill(0, 49.0))])
def test_a_search_is_simulated_from_its_first_trial_and_the_curves(
    kills: tuple[Kill, ...],
) -> None:
    from components.tuning.searchers import key_of

    search = {**RANDOM, "space": SPACE}
    config = experiment(**search)
    whole = told(experiment(space=SPACE, searcher="grid", trial_scheduler="none"), 1)
    curves = {key_of(trial.point): trial for trial in whole.trials}
    found = told(config, 2, kills)
    for courses in (at_rate_of_first, as_timed):
        again = simulated(
            Case("asha", search, 2), config, courses(found, curves), times=TIMES, kills=kills
        )
        assert again.makespan_seconds == pytest.approx(found.seconds)
        ends = [len(trial.told) for trial in found.trials]
        assert [trial.evaluations for trial in again.trials] == ends


def test_kills_follow_from_the_seed_and_leave_time_to_come_back() -> None:
    kills = drawn_kills(3, slots=2, times=TIMES)
    assert kills == drawn_kills(3, slots=2, times=TIMES) != drawn_kills(4, slots=2, times=TIMES)
    assert FIRST_KILL[0] <= kills[0].seconds <= FIRST_KILL[1]
    assert kills[1].seconds - kills[0].seconds >= 23.0 + BETWEEN_KILLS[0]


def test_what_was_measured_is_kept_and_read(tmp_path: Path) -> None:
    import json
    from dataclasses import asdict

    found = told(experiment(space=SPACE, searcher="grid", trial_scheduler="none"), 2)
    file = tmp_path / "kept.json"
    file.write_text(json.dumps(asdict(found)))
    assert read_timed(json.loads(file.read_text())) == found
