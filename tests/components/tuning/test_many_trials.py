"""200 trials that end at once, over two slots: what races there are in Tune's actors, in leasing
slots and in the delivery of events would lose or double some.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, validate
from components.registry import open_tracker
from tests.ray_cluster import cluster_of_this_process

pytestmark = pytest.mark.slow
TRIALS, SLOTS = 200, 2
# One keeps `make test` short; three in a row are what a new version of Ray has to pass.
REPETITIONS = int(os.environ.get("STRESS_REPETITIONS", "1"))
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with cluster_of_this_process():
        yield


def experiment(folder: Path, **search: Any) -> ExperimentConfig:
    values: dict[str, Any] = {
        "name": "many",
        "backbone": {"source": "local", "name_or_path": "none", "family": "longformer"},
        "data": {"files": {"train": "none.jsonl"}},
        "training": {"metric": "validation/accuracy"},
        "registry": {"kind": "memory"},
        "cluster": {"storage_path": str(folder), "cache_path": str(folder / "cache")},
        "search": {
            "searcher": "random",
            "trial_scheduler": "none",
            "num_trials": TRIALS,
            "concurrent_slots": SLOTS,
            "reuse_trials": False,
            "space": {"optimizer.learning_rate": {"log_uniform": [1e-6, 1e-1]}},
        }
        | search,
    }
    return validate(ExperimentConfig, values)


def run(config: ExperimentConfig, folder: Path, *, reuse_actors: bool) -> tuple[Any, Any, float]:
    """The memory tracker, the log, and the seconds that all trials took."""
    from components.jobs.job import SlotSettings
    from components.jobs.run_writer import RunWriter
    from components.jobs.slots import close_slots, start_slots, wait_until_placed
    from components.tuning.run_search import run_trials
    from components.tuning.trial_log import RunFacts, TrialLog
    from components.tuning.tune_trial import SearchContext
    from tests.components.jobs.instant import run_instantly

    tracker = open_tracker("memory", "memory://")
    tracker.ensure_experiment(config.name, "")
    run_id = tracker.start_run(config.name, run_name="s", config={}, params={}, tags={})
    settings = SlotSettings(config.train_config(), config.cluster, folder, folder, "", {})
    slots = start_slots(settings, config.search.concurrent_slots, run_workers=run_instantly)
    wait_until_placed(slots)
    context = SearchContext(config, slots, folder, "", "", folder)
    log = TrialLog(config, RunWriter(tracker, run_id), facts=RunFacts(), identity=context.identity)
    started = time.monotonic()
    run_trials(context, log, num_documents=64, reuse_actors=reuse_actors)
    seconds = time.monotonic() - started
    close_slots(slots)
    return tracker, log, seconds


@pytest.mark.parametrize("repetition", range(REPETITIONS))
def test_none_of_200_trials_is_lost_or_doubled(
    cluster: None, tmp_path: Path, repetition: int
) -> None:
    from tests.components.jobs.instant import EVALUATIONS

    config = experiment(tmp_path)
    tracker, log, seconds = run(config, tmp_path, reuse_actors=True)
    print(f"{TRIALS} trials over {SLOTS} slots: {seconds:.1f} s, {seconds / TRIALS:.3f} s each")
    summaries = log.summaries
    assert len(summaries) == len({summary.config_sha256 for summary in summaries}) == TRIALS
    assert {summary.outcome for summary in summaries} == {"completed"}
    runs = [run for run in tracker.runs.values() if run.parent is not None]
    assert len(runs) == TRIALS and {run.status for run in runs} == {"completed"}
    for summary in summaries:
        rate = summary.point["optimizer.learning_rate"]
        # Each evaluation once, in order, and of this trial.
        assert summary.rungs == tuple((step, step, rate) for step in range(1, EVALUATIONS + 1))
        logged = tracker.runs[summary.run_id].metrics
        assert [step for step, _ in logged["validation/accuracy"]] == [1, 2]
        assert logged["gradient_norm"] == [(step, 0.5) for step in range(1, EVALUATIONS + 1)]
