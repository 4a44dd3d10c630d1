"""What can be known to fail before anything starts, each with the config path and the fix."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from components.backbones import check_positions, family_named
from components.config.cluster import ClusterConfig
from components.config.experiment import ExperimentConfig, TrainConfig
from components.config.space import combinations, corner_values, named, trial_config
from components.errors import BackboneError, ConfigError
from components.tasks import task_named

Training = tuple[str, TrainConfig]
"""A training that shall be possible, after the words that an error about it starts with."""


def check_feasible(trainings: Iterable[Training], backbone_json: Mapping[str, Any]) -> None:
    """Check trainings against their backbone's config.json.

    Raises ConfigError: text and prefix need more positions than there are, or the pooled row of a
    causal decoder cannot see the document.
    """
    for where, training in trainings:
        family = family_named(training.backbone.family)
        try:
            check_positions(
                family,
                backbone_json,
                max_tokens=training.data.max_tokens,
                prefix_length=training.adapter.prefix_length,
            )
        except BackboneError as error:
            raise ConfigError(f"{where}{error}") from error
        task = task_named(training.data.task)
        if reason := task.ignores_document(family, training.head.pooling):
            raise ConfigError(f"{where}{reason}.")


def trainings_of(config: ExperimentConfig) -> Iterator[Training]:
    """The trainings that bound a search: every value of its space beside the first ones of the
    other paths, then the combinations that bound it.

    The experiment's own value of a path that is searched is left out: no trial ever has it.
    """
    space = config.search.space
    first = {path: corner_values(domain)[0] for path, domain in space.items()}
    yield "", trial_config(config, first)
    for path, domain in space.items():
        for value in corner_values(domain):
            yield f"search.space.{path} = {value!r}: ", trial_config(config, first | {path: value})
    for point in combinations(config):
        yield f"search.space, {named(point)}: ", trial_config(config, point)


def check_resources(cluster: ClusterConfig, *, slots: int, cpus: float, gpus: float) -> None:
    """Raise ConfigError where a cluster of this size can never place the slots."""
    workers = cluster.fewest_workers
    for name, each, have, path in (
        ("CPU", cluster.cpus_per_worker, cpus, "cpus_per_worker"),
        ("GPU", cluster.gpus_per_worker, gpus, "gpus_per_worker"),
    ):
        needed = slots * workers * each
        if needed > have:
            raise ConfigError(
                f"cluster.{path}: {slots} slot(s) x {workers} worker(s) x {each:g} {name} = "
                f"{needed:g}, but the cluster has {have:g}. "
                f"Lower cluster.num_workers, cluster.{path} or search.concurrent_slots."
            )
