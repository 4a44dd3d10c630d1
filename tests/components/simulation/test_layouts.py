"""How many slots of how many workers."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.config import ExperimentConfig
from components.simulation import (
    KnownTrials,
    LossRates,
    SlotTimes,
    StepRate,
    Traffic,
    growing,
    share_of,
    simulated_layout,
)
from components.simulation.layouts import assumed_courses
from tests.components.tuning.test_searchers import experiment

SPACE = {
    "adapter.prefix_length": {"choice": [2, 4, 8]},
    "optimizer.learning_rate": {"choice": [1e-3, 1e-2]},
}


def known_of(
    fits: Callable[[int], bool] = lambda workers: True,
    space: dict[str, Any] = SPACE,
    gradients: int = 0,
    **search: Any,
) -> KnownTrials:
    """Six trials of 80 steps of 8 documents, 2 seconds a step on one worker."""
    search = {"searcher": "grid", "trial_scheduler": "none", **search}
    config: ExperimentConfig = experiment(space=space, **search)
    training = config.training.model_copy(
        update={"micro_batch_size": 4, "gradient_accumulation_steps": 2, "epochs": 10}
    )
    config = config.model_copy(update={"training": training})
    share = share_of(config.train_config(), 1)
    return KnownTrials(
        config,
        documents=64,
        trials=6,
        rate=StepRate(2.0, 1, share, Traffic(gradients)),
        times=SlotTimes(10.0, 1.0, 12.0),
        losses=LossRates(),
        fits=fits,
    )


def test_slots_come_before_ranks_until_every_trial_has_one() -> None:
    """Six trials: a slot of more ranks pays where trials are fewer than slots, or do not fill their
    last round.
    """
    found = {
        layout.room: (layout.slots, layout.workers_per_slot)
        for layout in growing(known_of(), (1, 2, 3, 4, 6, 12, 24, 48, 96, 1024))
    }
    assert found[1] == (1, 1) and found[2] == (2, 1) and found[3] == (3, 1) and found[6] == (6, 1)
    assert found[12] == (6, 2) and found[24] == (6, 4) and found[48] == (6, 8)
    assert max(found) == 48  # more ranks than documents of a step have nothing to do


def test_a_bigger_cluster_is_never_slower_and_costs_what_it_holds() -> None:
    layouts = list(growing(known_of(), tuple(2**power for power in range(11))))
    seconds = [layout.makespan_seconds for layout in layouts]
    assert seconds == sorted(seconds, reverse=True)
    for layout in layouts:
        held = layout.slots * layout.workers_per_slot * layout.makespan_seconds / 3600
        assert layout.worker_hours == pytest.approx(held)
        assert layout.slots * layout.workers_per_slot <= layout.room
        assert 0.0 < layout.utilisation <= 1.0


def test_one_worker_takes_its_start_and_all_steps() -> None:
    layout = simulated_layout(known_of(), 1, 1, 1)
    assert layout.makespan_seconds == pytest.approx(10.0 + 6 * 80 * 2.0 + 5 * 1.0)


def test_slots_that_lack_memory_are_left_out() -> None:
    found = list(growing(known_of(fits=lambda workers: workers >= 4), (1, 2, 4, 8)))
    told = [(each.room, each.slots, each.workers_per_slot) for each in found]
    assert told == [(4, 1, 4), (8, 2, 4)]
    assert not list(growing(known_of(fits=lambda workers: False), (1, 1024)))


def test_ranks_that_wait_for_each_other_are_not_asked_for() -> None:
    """Where gradients take longer than the step, a slot stays as it is."""
    found = list(growing(known_of(gradients=10**12), (6, 12, 1024)))
    assert [(each.slots, each.workers_per_slot) for each in found] == [(6, 1)]


def test_trials_of_different_epochs_have_different_steps() -> None:
    space = {"training.epochs": {"choice": [2, 10]}}
    courses = assumed_courses(known_of(space=space), workers=1)
    assert [courses({"training.epochs": epochs}).steps[-1] for epochs in (2, 10)] == [16, 80]
    assert sum(courses({"training.epochs": 2}).seconds) == pytest.approx(32.0)


def test_losses_cost_time() -> None:
    known = known_of()
    lost = replace(known, losses=LossRates(per_node_hour=60.0, node_away_seconds=60.0))
    with_losses, without = (simulated_layout(each, 6, 6, 1) for each in (lost, known))
    assert with_losses.makespan_seconds > without.makespan_seconds + 60.0
    assert with_losses.utilisation < without.utilisation


def test_early_stopping_saves_time_and_a_searcher_that_looks_at_results_is_drawn() -> None:
    space = {"optimizer.learning_rate": {"log_uniform": [1e-6, 1.0]}}
    drawn = {"space": space, "num_trials": 30, "trial_scheduler": "asha"}
    whole, stopped, optuna = (
        simulated_layout(known_of(**(drawn | {"searcher": "random"} | changes)), 4, 4, 1)
        for changes in ({"trial_scheduler": "none"}, {}, {"searcher": "optuna"})
    )
    assert stopped.makespan_seconds < 0.7 * whole.makespan_seconds
    assert optuna == stopped
