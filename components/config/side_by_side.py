"""Whether the trials of a search can be trained side by side in a slot
(`search.trials_per_slot`), known before anything starts.

They share a run of the backbone where the text does not see what is trained: then its keys and
values are the same for all of them. Where it does, each trial has a text of its own, and K trials
side by side would take K times the work and the memory of one.
"""

from collections.abc import Iterable

from components.config.experiment import ExperimentConfig, TrainConfig
from components.config.space import combinations, named, trial_config
from components.errors import ConfigError

METHOD_OR_PLACEMENT = ("adapter", "adapter.method", "adapter.placement")
"""Paths of a space by which some of its trials may share a run and others not."""


def check_side_by_side(config: ExperimentConfig) -> None:
    """Raise ConfigError where search.trials_per_slot is more than 1 and the trials cannot share a
    run.
    """
    count = config.search.trials_per_slot
    if count > 1 and (reason := side_by_side_obstacle(config)):
        raise ConfigError(f"search.trials_per_slot {count}: {reason}, or trials_per_slot to 1.")


def side_by_side_obstacle(config: ExperimentConfig) -> str | None:
    """Why its trials cannot share a run of the backbone, with what to set; None where they can."""
    points = [(point, trial_config(config, point)) for point in combinations(config)]
    seeing = [point for point, training in points if not training.adapter.text_is_read_apart]
    if seeing:
        return _seen(points[0][1], seeing, all_of_them=len(seeing) == len(points))
    for _, training in points:
        if reason := _of_training(training):
            return reason
    return None


def _seen(
    first: TrainConfig,
    seeing: Iterable[dict[str, object]],
    *,
    all_of_them: bool,
) -> str:
    why = "its text sees what is trained and differs from trial to trial, so nothing is shared"
    if all_of_them:
        method = first.adapter.method
        placement = getattr(first.adapter, "placement", None)
        form = method if placement is None else f"{method} with adapter.placement {placement}"
        return f"{form}: {why}; set adapter.placement to suffix (decoders) or one_way (encoders)"
    values = sorted(
        {
            named({path: point[path]})
            for point in seeing
            for path in METHOD_OR_PLACEMENT
            if path in point
        }
    )
    return (
        f"the space has {'; '.join(values)}, with which a trial cannot share a run ({why}); take "
        "these values out"
    )


def _of_training(training: TrainConfig) -> str | None:
    if training.zero.stage == 3:
        return (
            "zero.stage 3: each trial's engine would gather every shard of the backbone for "
            "itself; set zero.stage to 0, 1 or 2"
        )
    if training.training.offload_activations:
        return (
            "training.offload_activations carries inputs of recomputed layers, and rows behind a "
            "text recompute none; set it to false"
        )
    if training.training.feed_forward_tile_rows is not None:
        return (
            "training.feed_forward_tile_rows is put into the backbone by one trial at a time; set "
            "it to null"
        )
    return None
