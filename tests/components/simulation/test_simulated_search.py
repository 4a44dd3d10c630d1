"""Laws of a search in simulated time."""

import random
import subprocess
import sys
from typing import Any

import pytest

from components.config import ExperimentConfig
from components.jobs.repetition import LOSSES_WITHOUT_PROGRESS
from components.simulation import (
    Course,
    Loss,
    LossRates,
    Simulated,
    SlotTimes,
    drawn_losses,
    simulate,
)
from components.tuning.searchers import Point, key_of
from tests.components.tuning.test_searchers import experiment

TIMES = SlotTimes(start=12.0, further_trial=1.0, restart=20.0)
EVALUATIONS = 9
SPACE = {"optimizer.learning_rate": {"log_uniform": [1e-6, 1.0]}}


def config_of(**search: Any) -> ExperimentConfig:
    return experiment(space=SPACE, **{"num_trials": 12, "trial_scheduler": "none", **search})


def course(point: Point) -> Course:
    """Trials of different lengths, each with a place of its own."""
    draw = random.Random(key_of(point))
    seconds, place = draw.uniform(1.0, 5.0), draw.random()
    steps = tuple(range(10, 10 * EVALUATIONS + 1, 10))
    return Course(steps, (seconds,) * EVALUATIONS, (place,) * EVALUATIONS)


def run(config: ExperimentConfig, slots: int = 1, **changes: Any) -> Simulated:
    given = {"courses": course, "times": TIMES, "max_evaluations": EVALUATIONS} | changes
    return simulate(config, slots=slots, **given)


def test_one_slot_takes_its_start_all_trials_and_what_lies_between_them() -> None:
    told = run(config_of())
    training = sum(sum(course(trial.point).seconds) for trial in told.trials)
    assert told.makespan_seconds == pytest.approx(12.0 + training + 11 * 1.0)
    assert told.training_seconds == pytest.approx(training)
    assert {trial.outcome for trial in told.trials} == {"completed"}


def test_more_slots_are_never_slower() -> None:
    """Without losses and early stopping: trials are independent and handed out in one order, so a
    further slot only lets each begin earlier.
    """
    makespans = [run(config_of(), slots).makespan_seconds for slots in range(1, 15)]
    assert makespans == sorted(makespans, reverse=True)
    assert makespans[-1] == makespans[11] < makespans[0] / 5  # 12 trials fill 12 slots


@pytest.mark.parametrize("trial_scheduler", ["none", "asha"])
@pytest.mark.parametrize("slots", [1, 3, 40])
@pytest.mark.parametrize("per_hour", [0.0, 20.0])
def test_slots_never_train_for_longer_than_they_are_held(
    trial_scheduler: str, slots: int, per_hour: float
) -> None:
    losses = drawn_losses(
        LossRates(per_worker_hour=per_hour, per_node_hour=per_hour, node_away_seconds=5.0),
        slots=slots,
        workers_per_slot=1,
        workers_per_node=8,
        seed=0,
    )
    told = run(config_of(trial_scheduler=trial_scheduler), slots, losses=losses)
    assert 0.0 < told.utilisation <= 1.0
    assert len(told.trials) == 12


def test_the_same_seed_gives_the_same_search() -> None:
    def drawn(seed: int) -> Simulated:
        rates = LossRates(per_worker_hour=40.0)
        losses = drawn_losses(rates, slots=3, workers_per_slot=2, workers_per_node=8, seed=seed)
        return run(config_of(trial_scheduler="asha"), 3, losses=losses)

    assert drawn(1) == drawn(1) != drawn(2)
    assert sum(trial.losses for trial in drawn(1).trials) > 0


def test_a_lost_slot_repeats_what_came_since_the_last_evaluation() -> None:
    config = config_of(num_trials=1)
    undisturbed = run(config)
    seconds = undisturbed.training_seconds / EVALUATIONS
    lost_at = 12.0 + 2.25 * seconds
    told = run(config, losses=[Loss(lost_at, (0,))])
    again = 20.0 + 0.25 * seconds  # the restart, and a quarter of an evaluation's training
    assert told.makespan_seconds == pytest.approx(undisturbed.makespan_seconds + again)
    assert told.training_seconds == pytest.approx(undisturbed.training_seconds)
    (trial,) = told.trials
    assert (trial.losses, trial.outcome, trial.evaluations) == (1, "completed", EVALUATIONS)


def test_a_slot_of_several_places_is_as_many_slots_of_one_that_are_lost_together() -> None:
    beside = config_of(trials_per_slot=3)
    told, apart = run(beside, 2), run(config_of(), 6)
    assert told.makespan_seconds == apart.makespan_seconds
    assert told.training_seconds == pytest.approx(apart.training_seconds)
    assert told.slots == 2 and told.utilisation == pytest.approx(apart.utilisation)
    # The first trials are spread over the slots before any of them has two.
    assert [trial.slot for trial in told.trials[:6]] == [0, 1] * 3
    lost = run(beside, 2, losses=[Loss(13.0, (1,))])
    assert [trial.losses for trial in lost.trials[:6]] == [0, 1] * 3


def test_a_loss_while_a_slot_starts_delays_it_alone() -> None:
    told = run(config_of(num_trials=2), 2, losses=[Loss(5.0, (1,))])
    assert [trial.started for trial in told.trials] == [12.0, 25.0]


def test_a_repeated_trial_goes_to_a_slot_that_waits() -> None:
    """As in RaySlots: the first with room takes it, and the warm one needs no restart."""

    def lengths(point: Point) -> Course:
        long = point["optimizer.learning_rate"] == 2.0
        return Course((1, 2), (100.0, 100.0) if long else (10.0, 10.0), (0.0, 0.0))

    space = {"optimizer.learning_rate": {"choice": [1.0, 2.0]}}
    config = experiment(space=space, searcher="grid", trial_scheduler="none")
    told = run(config, 2, courses=lengths, losses=[Loss(150.0, (1,))])
    short, long = told.trials
    assert (short.slot, long.slot) == (0, 0)
    assert long.ended == pytest.approx(150.0 + 100.0)


def test_a_trial_is_given_up_as_the_program_gives_it_up() -> None:
    """Its budget of losses without progress, from components/jobs/repetition.py."""
    losses = [Loss(13.0 + 20.5 * number, (0,)) for number in range(LOSSES_WITHOUT_PROGRESS + 1)]
    slow = Course((1,), (100.0,), (0.0,))
    told = run(config_of(num_trials=1), courses=lambda point: slow, losses=losses)
    assert [trial.outcome for trial in told.trials] == ["lost"]
    told = run(config_of(num_trials=1), courses=lambda point: slow, losses=losses[1:])
    assert [trial.outcome for trial in told.trials] == ["completed"]


def test_a_stopped_trial_keeps_its_slot_until_its_present_step_ends() -> None:
    told = run(config_of(trial_scheduler="asha"))
    for before, after in zip(told.trials, told.trials[1:], strict=False):
        step = course(before.point).step_seconds(1)
        waited = 1.0 + (step if before.outcome == "stopped" else 0.0)
        assert after.started == pytest.approx(before.ended + waited)
    assert {trial.outcome for trial in told.trials} == {"completed", "stopped"}


def test_optuna_sees_the_results_so_far() -> None:
    """The real searcher is asked: its points after the first draws depend on the values told."""
    pytest.importorskip("optuna")

    def points(sign: float) -> list[Point]:
        def place(point: Point) -> Course:
            value = sign * point["optimizer.learning_rate"]
            return Course((1,), (1.0,), (value,))

        config = config_of(searcher="optuna", num_trials=8)
        return [trial.point for trial in run(config, courses=place).trials]

    assert points(1.0)[:2] == points(-1.0)[:2]
    assert points(1.0) != points(-1.0)


@pytest.mark.slow
def test_two_thousand_trials_take_seconds_and_no_torch() -> None:
    program = """
import sys, time
from tests.components.simulation.test_simulated_search import config_of, run
config = config_of(trial_scheduler="asha", num_trials=2000)
started = time.process_time()
told = run(config, 64)
print(len(told.trials), time.process_time() - started, "torch" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    trials, seconds, torch = ran.stdout.split()[-3:]
    # 8 s of processor time with the import of ray.tune, on a busy core; a minute would be no use.
    assert int(trials) == 2000 and float(seconds) < 30.0 and torch == "False"
