"""A trial as Tune sees it, with workers that do what a test tells them: what is repeated here, what
is told to Tune, and what the driver makes of it.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.jobs.events import Evaluated, Event, Failed, Trained
from components.jobs.job import Job
from components.jobs.repetition import LOSSES_WITHOUT_PROGRESS
from components.jobs.trial import make_trial
from components.training.outcomes import Progress, Report
from components.tuning.asking import EVENTS, TRIAL
from components.tuning.tune_trial import TuneTrial
from tests.components.jobs.test_run_jobs import Scripted

METRIC = "validation/accuracy"
CONFIG = validate(
    ExperimentConfig,
    {
        "name": "toy",
        "backbone": {"name_or_path": "a/b", "family": "longformer"},
        "data": {"files": {"train": "x.jsonl"}},
        "search": {"reuse_trials": False, "max_failures": 1},
        "training": {"micro_batch_size": 2},
    },
)


def evaluated(number: int) -> Evaluated:
    return Evaluated("a", Report(number, number, {METRIC: 0.5}, True, False, 1))


DONE = Trained("a", "completed", "all steps done", Progress(), 1, None)


def begun(becomes: Callable[[Job, int], list[Event]], folder: Path) -> tuple[TuneTrial, Scripted]:
    workers = Scripted(becomes)
    trial = make_trial(CONFIG, {"adapter.prefix_length": 4}, folder=folder)
    context: Any = SimpleNamespace(
        config=CONFIG, data_folder=folder / "data", workers=lambda: workers
    )
    tunes = object.__new__(TuneTrial)
    tunes.setup({TRIAL: trial}, context=context)
    return tunes, workers


def told(trial: TuneTrial) -> list[dict[str, Any]]:
    results = [trial.step()]
    while not results[-1]["done"]:
        results.append(trial.step())
    return results


def test_lost_workers_are_repeated_here_and_nobody_is_told(tmp_path: Path) -> None:
    def becomes(job: Job, time: int) -> list[Event]:
        return [evaluated(1), Failed("a", "died", "workers") if time < 5 else DONE]

    results = told(begun(becomes, tmp_path)[0])
    events = [event for result in results for event in result[EVENTS]]
    assert not any(isinstance(event, Failed) for event in events)
    assert events[-1] == DONE


@pytest.mark.parametrize(
    ("cause", "starts"), [("workers", LOSSES_WITHOUT_PROGRESS + 1), ("training", 2), ("input", 1)]
)
def test_what_is_given_up_is_told_as_the_end(tmp_path: Path, cause: Any, starts: int) -> None:
    failed = Failed("a", "why", cause)
    trial, workers = begun(lambda job, time: [failed], tmp_path)
    (result,) = told(trial)
    assert result["done"] and result[EVENTS] == (failed,) and result[METRIC] == float("-inf")
    assert len(workers.started) == starts


def test_want_of_memory_halves_the_micro_batch_and_then_is_infeasible(tmp_path: Path) -> None:
    failed = Failed("a", "CUDA out of memory", "memory")
    trial, workers = begun(lambda job, time: [failed], tmp_path)
    (result,) = told(trial)
    (told_event,) = result[EVENTS]
    assert told_event.cause == "memory" and "a single document" in told_event.reason
    assert [job.cut.training.micro_batch_size for job in workers.started] == [2, 1]
    trial, workers = begun(
        lambda job, time: [failed] if job.training is None else [DONE], tmp_path / "other"
    )
    assert told(trial)[-1][EVENTS] == (DONE,)
    trial, workers = begun(lambda job, time: [DONE], tmp_path / "other")
    told(trial)
    assert workers.started[0].cut.training.micro_batch_size == 1  # remembered


def test_a_trial_that_is_never_stepped_is_given_to_no_slot(tmp_path: Path) -> None:
    """Under load Tune makes an actor for a trial that it then moves to one that came free."""
    late, workers = begun(lambda job, time: [DONE], tmp_path)
    assert workers.started == []
    (result,) = told(late)
    assert result["done"] and len(workers.started) == 1


def test_a_trial_that_ended_makes_room_for_the_next_only_when_that_is_stepped(
    tmp_path: Path,
) -> None:
    trial, workers = begun(lambda job, time: [DONE], tmp_path)
    told(trial)
    workers.drop = lambda job_id: None  # type: ignore[method-assign]
    other = make_trial(CONFIG, {"adapter.prefix_length": 8}, folder=tmp_path)
    assert trial.reset_config({TRIAL: other})
    assert len(workers.started) == 1
    assert told(trial)[-1]["done"]
    assert [job.id for job in workers.started][1] == other.key
