"""What can be known to fail before anything starts, each with the config path and the fix."""

from collections.abc import Iterator, Mapping
from typing import Any

from components.backbones import check_positions, family_named
from components.config.experiment import ExperimentConfig, TrainConfig
from components.config.space import combinations, corner_values, named, trial_config
from components.errors import BackboneError, ConfigError
from components.tasks import task_named


def check_feasible(config: ExperimentConfig, backbone_json: Mapping[str, Any]) -> None:
    """Check the experiment's own values and every bounding value of its space against the
    backbone's config.json.

    Raises ConfigError: text and prefix need more positions than there are, or the pooled row of a
    causal decoder cannot see the document.
    """
    family = family_named(config.backbone.family)
    for where, point in named_points(config):
        try:
            check_positions(
                family,
                backbone_json,
                max_tokens=point.data.max_tokens,
                prefix_length=point.adapter.prefix_length,
            )
        except BackboneError as error:
            raise ConfigError(f"{where}{error}") from error
        task = task_named(point.data.task)
        if reason := task.ignores_document(family, point.head.pooling):
            raise ConfigError(f"{where}{reason}.")


def named_points(config: ExperimentConfig) -> Iterator[tuple[str, TrainConfig]]:
    """Every value of the space beside the first ones of the other paths, then the combinations that
    bound it, each with the words that an error about it starts with.

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


def check_resources(config: ExperimentConfig, *, cpus: float, gpus: float) -> None:
    """Raise ConfigError where a cluster of this size can never place the slots."""
    slots, workers = config.search.concurrent_slots, config.cluster.num_workers
    for name, each, have, path in (
        ("CPU", config.cluster.cpus_per_worker, cpus, "cpus_per_worker"),
        ("GPU", config.cluster.gpus_per_worker, gpus, "gpus_per_worker"),
    ):
        needed = slots * workers * each
        if needed > have:
            raise ConfigError(
                f"cluster.{path}: {slots} slot(s) x {workers} worker(s) x {each:g} {name} = "
                f"{needed:g}, but the cluster has {have:g}. "
                f"Lower cluster.num_workers, cluster.{path} or search.concurrent_slots."
            )
