"""A search that Ray Tune really ran, told again: the same trials are stopped at the same
evaluations.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.jobs.events import Evaluated
from components.registry import open_tracker
from components.simulation import Course, SlotTimes, simulate
from components.tuning.decisions import Decisions
from tests.components.simulation.paced import EVALUATIONS, METRIC, value
from tests.ray_cluster import cluster_of_this_process

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
RATE = "optimizer.learning_rate"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with cluster_of_this_process():
        yield


def experiment(folder: Path, slots: int) -> ExperimentConfig:
    values: dict[str, Any] = {
        "name": "told-again",
        "backbone": {"source": "local", "name_or_path": "none", "family": "longformer"},
        "data": {"files": {"train": "none.jsonl"}},
        "training": {"metric": METRIC, "epochs": EVALUATIONS},
        "registry": {"kind": "memory"},
        "cluster": {"storage_path": str(folder), "cache_path": str(folder / "cache")},
        "search": {
            "trial_scheduler": "asha",
            "num_trials": 14,
            "concurrent_slots": slots,
            "reuse_trials": False,
            "space": {RATE: {"log_uniform": [1e-3, 1e-1]}},
        },
    }
    return validate(ExperimentConfig, values)


def really_run(config: ExperimentConfig, folder: Path) -> tuple[Any, list[tuple[str, Any]]]:
    """The trials by name, and all that Tune was told, in its order: (trial, event), or (trial,
    None) where the trial was over.
    """
    from components.jobs.job import SlotSettings
    from components.jobs.run_writer import RunWriter
    from components.jobs.slots import close_slots, start_slots, wait_until_placed
    from components.tuning.asking import EVENTS
    from components.tuning.run_search import run_trials
    from components.tuning.trial_log import RunFacts, TrialLog
    from components.tuning.tune_trial import SearchContext
    from tests.components.simulation.paced import run_paced

    told: list[tuple[str, Any]] = []

    class Recorder(TrialLog):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            super().on_trial_start(iteration, trials, trial, **info)
            told.append((self._started(trial).key, "started"))

        def on_trial_result(
            self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any
        ) -> None:
            super().on_trial_result(iteration, trials, trial, result, **info)
            told.extend((self._started(trial).key, event) for event in result[EVENTS])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            super().on_trial_complete(iteration, trials, trial, **info)
            told.append((self._started(trial).key, None))

    tracker = open_tracker("memory", "memory://")
    tracker.ensure_experiment(config.name, "")
    run_id = tracker.start_run(config.name, run_name="s", config={}, params={}, tags={})
    settings = SlotSettings(config.train_config(), config.cluster, folder, folder, "", "")
    slots = start_slots(settings, config.search.concurrent_slots, run_workers=run_paced)
    wait_until_placed(slots)
    context = SearchContext(config, slots, folder, "", "", folder)
    writer = RunWriter(tracker, run_id)
    log = Recorder(config, writer, facts=RunFacts(), identity=context.identity)
    run_trials(context, log, num_documents=64)
    close_slots(slots)
    names = {key: summary.name for key, summary in writer.summaries.items()}
    return log.summaries, [(names[key], event) for key, event in told]


def told_again(config: ExperimentConfig, told: list[tuple[str, Any]]) -> Decisions:
    """The recorded events in their order; what is decided meanwhile is what Tune decided."""
    decisions = Decisions(config, max_evaluations=EVALUATIONS)
    ends = {name: at for at, (name, _) in enumerate(told)}
    for at, (name, event) in enumerate(told):
        if event == "started":
            asked = decisions.ask()
            assert asked is not None and asked[0] == name
        elif event is None:
            decisions.end(name)
        else:
            over = decisions.tell(name, event)
            if isinstance(event, Evaluated) and not event.report.done:
                assert over == (told[at + 1] == (name, None)), (name, event.report.evaluation)
    assert len(ends) == len(decisions.results)
    return decisions


@pytest.mark.parametrize("slots", [1, 2])
def test_the_same_trials_are_stopped(cluster: None, tmp_path: Path, slots: int) -> None:
    config = experiment(tmp_path, slots)
    trials, told = really_run(config, tmp_path)
    outcomes = {trial.name: trial.outcome for trial in trials}
    assert {*outcomes.values()} == {"completed", "stopped"}
    decisions = told_again(config, told)
    assert {name: result.outcome for name, result in decisions.results.items()} == outcomes
    # Of two slots the trial that was asked for first may start last.
    asked = sorted(result.point[RATE] for result in decisions.results.values())
    assert asked == sorted(trial.point[RATE] for trial in trials)


def test_a_search_of_one_slot_is_simulated_as_it_ran(cluster: None, tmp_path: Path) -> None:
    config = experiment(tmp_path, 1)
    trials, _ = really_run(config, tmp_path)

    def course(point: Any) -> Course:
        numbers = tuple(range(1, EVALUATIONS + 1))
        values = tuple(value(point[RATE], number) for number in numbers)
        return Course(numbers, (0.2,) * EVALUATIONS, values)

    simulated = simulate(
        config,
        slots=1,
        courses=course,
        times=SlotTimes(1.0, 0.1, 1.0),
        max_evaluations=EVALUATIONS,
    )
    assert [(each.name, each.outcome, each.evaluations) for each in simulated.trials] == [
        (each.name, each.outcome, each.evaluations) for each in trials
    ]
