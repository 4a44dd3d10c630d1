"""A trial that ran corrects the plan of its kind, and of no other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig
from components.jobs.summary import TrialSummary
from components.planning import Measured, make_plan, remember, remembered, search_wanted
from components.planning.paper_table import MODELS
from pipelines.first_trial import compared
from tests.components.planning.test_plan import experiment

TOOK = Measured(trial="trial-1", steps=10, seconds=30.0, memory_bytes=1500, planned_bytes=1000)


def config(cache: Path, **training: Any) -> ExperimentConfig:
    return experiment(
        backbone={"name_or_path": "x", "family": "decoder"},
        head={"pooling": "last"},
        cluster={"cache_path": str(cache)},
        training={"max_steps": 7, "epochs": 1, **training},
    )


@pytest.fixture
def known(tmp_path: Path) -> ExperimentConfig:
    known = config(tmp_path)
    remember(TOOK, search_wanted(known).settings[0], known.cluster)
    return known


def test_no_time_is_claimed_before_a_trial_of_this_kind_ran(
    known: ExperimentConfig, tmp_path: Path
) -> None:
    wider = config(tmp_path, micro_batch_size=8)
    assert remembered(search_wanted(wider).settings[0], wider.cluster) is None
    assert make_plan(search_wanted(wider), MODELS["Llama-3-8B"]).seconds_per_trial is None


def test_a_measured_trial_gives_the_next_plan_its_time_and_corrects_its_memory(
    known: ExperimentConfig,
) -> None:
    wanted = search_wanted(known)
    told = remembered(wanted.settings[1], known.cluster)
    assert told == TOOK
    before = make_plan(wanted, MODELS["Llama-3-8B"])
    after = make_plan(wanted, MODELS["Llama-3-8B"], None, told)
    assert after.memory_needed_bytes == pytest.approx(1.5 * before.memory_needed_bytes, rel=1e-6)
    assert after.measured == TOOK


def test_what_was_measured_alone_says_nothing_of_trials_side_by_side(
    known: ExperimentConfig,
) -> None:
    first = search_wanted(known).settings[0]
    assert remembered(first, known.cluster, trials_per_slot=4) is None
    remember(replace(TOOK, steps=20), first, known.cluster, trials_per_slot=4)
    assert remembered(first, known.cluster) == TOOK


def test_a_damaged_memory_is_none(known: ExperimentConfig, tmp_path: Path) -> None:
    (file,) = (tmp_path / "measured").iterdir()
    file.write_text(file.read_text(encoding="utf-8").replace("30.0", "3.0"), encoding="utf-8")
    assert remembered(search_wanted(known).settings[0], known.cluster) is None


def test_plan_and_measurement_are_told_side_by_side() -> None:
    line = compared(
        Measured("t", steps=10, seconds=30.0, memory_bytes=3 * 2**20, planned_bytes=2 * 2**20)
    )
    assert "3.00 s per step" in line and "3 MiB" in line and "said 2" in line and "+50%" in line


def test_a_trial_without_a_measured_memory_corrects_none() -> None:
    silent = Measured("t", steps=1, seconds=1.0, memory_bytes=None, planned_bytes=10)
    assert silent.memory_factor == 1.0


def test_the_first_trial_that_ended_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.first_trial as first_trial

    monkeypatch.setattr(first_trial, "inspect_backbone", lambda _: MODELS["Llama-3-8B"])
    said: list[str] = []
    experiment_config = config(tmp_path)
    first = first_trial.FirstTrial(experiment_config, said.append, train_documents=21)
    point = {"adapter.prefix_length": 4, "optimizer.learning_rate": 1e-3}
    running = TrialSummary("trial-1", point, "sha", "folder", "run", step=4, seconds=8.0)
    first.update(running)
    assert not said
    ended = TrialSummary(
        "trial-1",
        point,
        "sha",
        "folder",
        "run",
        outcome="completed",
        step=4,
        seconds=8.0,
        peak_memory_bytes=2**33,
    )
    first.update(ended)
    first.update(ended)
    assert len(said) == 1 and "2.00 s per step" in said[0]
    wanted = search_wanted(experiment_config)
    told = remembered(wanted.settings[0], wanted.cluster)
    assert told is not None and told.memory_bytes == 2**33 and told.train_documents == 21


def test_steps_are_known_once_the_documents_were_counted(tmp_path: Path) -> None:
    """Also what an earlier version remembered is read; it did not count them."""
    wanted = search_wanted(config(tmp_path, max_steps=None, epochs=3))
    before = make_plan(wanted, MODELS["Llama-3-8B"], None, TOOK)
    assert before.steps_per_trial is None and before.train_documents is None
    counted = replace(TOOK, train_documents=21)
    after = make_plan(wanted, MODELS["Llama-3-8B"], None, counted)
    # 21 documents in steps of 4, three times.
    assert (after.steps_per_trial, after.train_documents) == (18, 21)
