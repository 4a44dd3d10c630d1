"""Let Ray Tune run the trials of a search on its slots."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from components.config import ExperimentConfig, TrainConfig, trial_config
from components.config.steps import most_evaluations
from components.planning import check_resources
from components.tuning.searchers import SEARCHERS
from components.tuning.trial_log import TrialLog
from components.tuning.trial_schedulers import TRIAL_SCHEDULERS
from components.tuning.tune_trial import POINT, SearchContext, TuneTrial

HOLDS_NO_CPU = {
    "memory": 1
    # bytes; Tune insists on some resource, and a trial only passes messages: the slot's workers
    # hold
    # the CPUs and GPUs
}


def check_cluster_fits(config: ExperimentConfig) -> None:
    """Raise ConfigError where the connected cluster can never place the slots: Tune would wait for
    ever.
    """
    have = ray.cluster_resources()
    check_resources(config, cpus=have.get("CPU", 0.0), gpus=have.get("GPU", 0.0))


def run_trials(context: SearchContext, log: TrialLog, *, num_documents: int) -> None:
    """Run the search to its end; what happened is in `log`. `num_documents`: of the training split.
    Raises KeyboardInterrupt where it was interrupted: trials keep their checkpoints.
    """
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator

    config = context.config
    points = SEARCHERS[config.search.searcher](config)
    trials = [trial_config(config, point) for point in points]
    evaluations = most_evaluations(
        trials, num_documents=num_documents, world_size=config.cluster.num_workers
    )
    with _quiet_tune():
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(TuneTrial, context=context), HOLDS_NO_CPU),
            param_space={POINT: tune.grid_search(points)},
            tune_config=tune.TuneConfig(
                metric=config.training.metric,
                mode=config.training.mode,
                search_alg=BasicVariantGenerator(max_concurrent=config.search.concurrent_slots),
                scheduler=TRIAL_SCHEDULERS[config.search.trial_scheduler](config, evaluations),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=context.folder,
                callbacks=[log],
                failure_config=tune.FailureConfig(max_failures=config.search.max_failures),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
                verbose=0,
            ),
        )
        tuner.fit()


@contextmanager
def _quiet_tune() -> Iterator[None]:
    """Tune leaves Ctrl-C to us, prints nothing of its own, and accepts reports without the metric
    (trials that diverged at once).
    """
    values = {
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


def finalize_best(
    context: SearchContext, trial_folder: Path, config: TrainConfig, artifact_folder: Path
) -> dict[str, Any]:
    """Let a slot evaluate a trial's best adapter on all validation and test documents and write its
    artifact; returns the values of `training.finalize.Finalized`.
    """
    from components.tuning.assignments import Assignment

    slot, holder = context.slots[0], "finalize"
    assignment = Assignment(
        "finalize", config, context.data_folder, str(trial_folder), str(artifact_folder)
    )
    sequence = ray.get(slot.assign.remote(assignment))
    while True:
        for message in ray.get(slot.next_messages.remote(sequence, holder)):
            if message.kind == "error":
                raise RuntimeError(message.values["error"])
            if message.kind == "end":
                return dict(message.values)
