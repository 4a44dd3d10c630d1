"""Let Ray Tune run the trials of a search on its slots."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components.config.steps import most_evaluations
from components.jobs.repetition import LOSSES_WITHOUT_PROGRESS
from components.jobs.slots import this_node
from components.planning import trainings_of
from components.tuning.asking import Asking
from components.tuning.searchers import SEARCHERS
from components.tuning.trial_log import TrialLog
from components.tuning.trial_schedulers import TRIAL_SCHEDULERS
from components.tuning.tune_trial import SearchContext, TuneTrial

# Bytes; Tune insists on some resource, and a trial only passes events on: the slot's workers hold
# the CPUs and GPUs.
HOLDS_NO_CPU = {"memory": 1}
UNTIL_THE_SEARCHER_ENDS = -1
REUSE_ACTORS = True
TUNES_FOLDER = "tune"

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TunesTrial


def run_trials(
    context: SearchContext,
    log: TrialLog,
    *,
    num_documents: int,
    reuse_actors: bool = REUSE_ACTORS,
) -> None:
    """Run the search to its end; what happened is in `log`. `num_documents`: of the training split;
    `reuse_actors`: one actor of Tune's for many trials (README.md). Raises KeyboardInterrupt where
    it was interrupted: trials keep their checkpoints.
    """
    from ray import tune

    config = context.config
    searcher = SEARCHERS[config.search.searcher](config)
    max_evaluations = most_evaluations(
        [training for _, training in trainings_of(config)],
        num_documents=num_documents,
        world_size=config.cluster.num_workers,
    )
    with _quiet_tune(), _without_pickles(context.folder / TUNES_FOLDER):
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(TuneTrial, context=context),
                # Where slots are: a node that goes takes workers with it, and no trial's actor.
                tune.PlacementGroupFactory([HOLDS_NO_CPU], bundle_label_selector=[this_node()]),
            ),
            tune_config=tune.TuneConfig(
                metric=config.training.metric,
                mode=config.training.mode,
                search_alg=Asking(config, searcher, folder=context.folder),
                num_samples=UNTIL_THE_SEARCHER_ENDS,
                max_concurrent_trials=config.search.concurrent_slots
                * config.search.trials_per_slot,
                scheduler=TRIAL_SCHEDULERS[config.search.trial_scheduler](config, max_evaluations),
                trial_dirname_creator=_folder_name,
                reuse_actors=reuse_actors,
            ),
            run_config=tune.RunConfig(
                name=TUNES_FOLDER,
                storage_path=str(context.folder),
                callbacks=[log],
                # Of Tune's own actors; what happens in a slot is counted in tune_trial.py.
                failure_config=tune.FailureConfig(max_failures=LOSSES_WITHOUT_PROGRESS),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
                verbose=0,
            ),
        )
        tuner.fit()


def _folder_name(trial: "TunesTrial") -> str:
    """Tune would make one of all settings."""
    return str(trial.trial_id)


@contextmanager
def _without_pickles(folder: Path) -> Iterator[None]:
    """Tune keeps its state as pickles, for a restore of its own that no search uses. They go when
    the trials end, and those of a driver that was killed when its search is continued.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Tune leaves Ctrl-C to us, prints nothing of its own, accepts reports without the metric
    (trials that diverged at once), and does not write its state, all trials of it, over and over: a
    search is continued from its own folder.
    """
    values = {
        "TUNE_GLOBAL_CHECKPOINT_S": "86400",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
