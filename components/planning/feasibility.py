"""What can be known to fail before anything starts, each with the config path and the fix."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from components.backbones import (
    BackboneFamily,
    BackboneShape,
    backbone_shape,
    check_positions,
    family_named,
    quantization_fault,
)
from components.backbones.activation_offload import ON_A_CPU
from components.config.cluster import ClusterConfig
from components.config.experiment import ExperimentConfig, TrainConfig
from components.config.space import combinations, corner_values, named, trial_config
from components.errors import BackboneError, ConfigError
from components.tasks import task_named

Training = tuple[str, TrainConfig]
"""A training that shall be possible, after the words that an error about it starts with."""


def check_feasible(trainings: Iterable[Training], backbone_json: Mapping[str, Any]) -> None:
    """Check trainings against their backbone's config.json.

    Raises ConfigError: text and prefix need more positions than there are, the feed-forward part
    cannot be computed in tiles, the pooled row of a causal decoder cannot see the document, or
    weights stay quantised that are to be trained or sharded.
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
        fault = quantization_fault(
            backbone_json,
            stage=training.zero.stage,
            all_weights=training.adapter.kept(backbone_shape(backbone_json)).all_weights,
            method=training.adapter.method,
        )
        if fault is not None:
            raise ConfigError(f"{where}{fault}")
        if reason := _tiling_obstacle(training, family, backbone_json):
            raise ConfigError(f"{where}training.feed_forward_tile_rows: {reason}; set it to null.")
        task = task_named(training.data.task)
        if reason := task.ignores_document(family, training.head.pooling):
            raise ConfigError(f"{where}{reason}.")


def _tiling_obstacle(
    training: TrainConfig, family: BackboneFamily, backbone_json: Mapping[str, Any]
) -> str | None:
    """Why tiles cannot be computed, as a clause."""
    if training.training.feed_forward_tile_rows is None:
        return None
    return tiling_obstacle(training, family, backbone_shape(backbone_json))


def tiling_obstacle(
    training: TrainConfig, family: BackboneFamily, shape: BackboneShape
) -> str | None:
    """Why this training's feed-forward parts cannot be computed in tiles, as a clause; None where
    they can. What LoRA adds inside of one comes by a hook for the layer's run, and a piece is
    computed again after it.
    """
    if family.feed_forward is None:
        return f"a {family.name} has no feed-forward part that is a module of its own"
    if shape.experts:
        return "experts are asked for all rows at once: each piece would ask nearly all of them"
    kept = training.adapter.kept(shape)
    if kept.all_weights:
        return "a trained feed-forward part needs all its rows for its gradient"
    if kept.scaled_per_row:
        return f"adapter.method {training.adapter.method} scales linear modules inside of one"
    inside = [name for name in kept.targets if name in shape.inside_feed_forward]
    return f"adapter.targets trains {inside[0]}, which is inside of one" if inside else None


def check_offloading(trainings: Iterable[Training], cluster: ClusterConfig) -> None:
    """Raise ConfigError where activations would be offloaded to where they are."""
    for where, training in trainings:
        if training.training.offload_activations and not cluster.gpus_per_worker:
            raise ConfigError(
                f"{where}training.offload_activations: {ON_A_CPU}. Set it to false, or "
                "cluster.gpus_per_worker."
            )


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
