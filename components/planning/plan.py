"""The plan of an experiment: every distinct point of its space with parameters and memory, the
number of trials, and advice.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.backbones import BackboneShape, backbone_shape
from components.config.experiment import ExperimentConfig, TrainConfig
from components.config.search import Choice, Grid, Integer
from components.config.space import corner_values
from components.config.steps import most_evaluations, most_steps
from components.planning.feasibility import check_feasible, check_resources, named_points
from components.planning.memory import WorkerMemory, weights_bytes, worker_memory
from components.planning.trained_parameters import trainable_parameters


@dataclass(frozen=True)
class Resources:
    """What the cluster has, or this machine where no cluster runs; None for what is not known."""

    source: str
    cpus: float | None = None
    gpus: float | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    """Of its smallest GPU."""


@dataclass(frozen=True)
class PointPlan:
    """What one distinct size of trial takes."""

    prefix_length: int
    micro_batch_size: int
    """Sequences per worker at a time."""
    trainable_parameters: int
    positions: int
    """Positions that text and prefix need together."""
    memory: WorkerMemory


@dataclass(frozen=True)
class Plan:
    """What a search will take. `num_labels` None: not known before the data are read;
    `trainable_parameters` is then for two classes.
    """

    experiment: str
    backbone: str
    backbone_parameters: int
    backbone_positions: int
    num_labels: int | None
    points: tuple[PointPlan, ...]
    trials: int
    evaluations_per_trial: int
    """At most, of any trial."""
    train_batch_size: int
    steps_per_trial: int | None
    """Optimizer steps of any trial at most; None: not known before the data are read."""
    slots: int
    workers_per_slot: int
    cpus_needed: float
    gpus_needed: float
    memory_needed_bytes: int
    """Main memory of all workers at the largest point; on GPUs what lies there is not counted."""
    resources: Resources
    advice: tuple[str, ...]


def make_plan(
    config: ExperimentConfig, backbone_json: Mapping[str, Any], resources: Resources | None = None
) -> Plan:
    """Plan an experiment. Raises ConfigError where it cannot work (`check_feasible`,
    `check_resources`).
    """
    resources = resources or Resources(source="unknown")
    check_feasible(config, backbone_json)
    if resources.cpus is not None:
        check_resources(config, cpus=resources.cpus, gpus=resources.gpus or 0.0)
    shape = backbone_shape(backbone_json)
    num_labels = (
        len(config.data.installed_source.libraries)
        if config.data.installed_source is not None
        else None
    )
    trials = [point for _, point in named_points(config)]
    points = _distinct_points(config, trials, shape, num_labels or 2)
    evaluations = _most_evaluations(config, trials)
    workers = config.search.concurrent_slots * config.cluster.num_workers
    largest = max((point.memory for point in points), key=lambda memory: memory.total)
    per_worker = largest.process if config.cluster.gpus_per_worker else largest.total
    return Plan(
        experiment=config.name,
        backbone=config.backbone.name_or_path,
        backbone_parameters=shape.parameters,
        backbone_positions=shape.positions,
        num_labels=num_labels,
        points=points,
        trials=number_of_trials(config),
        evaluations_per_trial=evaluations,
        train_batch_size=config.train_batch_size,
        steps_per_trial=most_steps(
            trials, num_documents=_training_documents(config), world_size=config.cluster.num_workers
        ),
        slots=config.search.concurrent_slots,
        workers_per_slot=config.cluster.num_workers,
        cpus_needed=workers * config.cluster.cpus_per_worker,
        gpus_needed=workers * config.cluster.gpus_per_worker,
        memory_needed_bytes=workers * per_worker,
        resources=resources,
        advice=tuple(_advice(config, shape, largest, workers * per_worker, resources, evaluations)),
    )


def number_of_trials(config: ExperimentConfig) -> int:
    """Trials of the whole search at most: every combination of a grid, or the draws times the size
    of any grid among them; no point twice.
    """
    sizes = [
        _size(domain)
        for domain in config.search.space.values()
        if config.search.searcher == "grid" or isinstance(domain, Grid)
    ]
    if config.search.searcher == "grid":
        return math.prod(sizes)
    finite = all(
        isinstance(domain, Choice | Grid | Integer) for domain in config.search.space.values()
    )
    points = math.prod(_size(domain) for domain in config.search.space.values())
    trials = math.prod(sizes) * config.search.num_trials
    return min(trials, points) if finite else trials


def _size(domain: Any) -> int:
    values = corner_values(domain)
    return values[1] - values[0] + 1 if hasattr(domain, "integer") else len(values)


def _distinct_points(
    config: ExperimentConfig, trials: Sequence[TrainConfig], shape: BackboneShape, num_labels: int
) -> tuple[PointPlan, ...]:
    points = {_point(trial, shape, num_labels, config.cluster.num_workers) for trial in trials}
    return tuple(
        sorted(
            points,
            key=lambda point: (
                point.prefix_length,
                point.micro_batch_size,
                point.trainable_parameters,
            ),
        )
    )


def _point(
    point: TrainConfig, shape: BackboneShape, num_labels: int, num_workers: int
) -> PointPlan:
    trainable = trainable_parameters(
        shape, point.adapter, num_labels=num_labels, task=point.data.task
    )
    return PointPlan(
        prefix_length=point.adapter.prefix_length,
        micro_batch_size=point.training.micro_batch_size,
        trainable_parameters=trainable,
        positions=point.data.max_tokens + point.adapter.prefix_length,
        memory=worker_memory(point, shape, trainable=trainable, num_workers=num_workers),
    )


def evaluations_at_most(config: ExperimentConfig) -> int:
    """Evaluations of any trial of the search at most; fewer where an epoch has fewer steps than
    evaluations.
    """
    return _most_evaluations(config, [point for _, point in named_points(config)])


def _most_evaluations(config: ExperimentConfig, points: Sequence[TrainConfig]) -> int:
    documents = (
        _training_documents(config) if config.data.max_documents is None else None
    )  # a limit does not say how few there are
    return most_evaluations(points, num_documents=documents, world_size=config.cluster.num_workers)


def _training_documents(config: ExperimentConfig) -> int | None:
    """How many there are at most, as far as the settings tell."""
    documents = config.data.max_documents
    if (source := config.data.installed_source) is not None:
        carved = (
            len(source.libraries)
            * source.documents_per_library
            * (1.0 - config.data.test_fraction)
            * (1.0 - config.data.validation_fraction)
        )
        documents = min(documents or math.ceil(carved), math.ceil(carved))
    if (needle := config.data.needle) is not None:
        documents = min(documents or needle.train_documents, needle.train_documents)
    return documents


def _advice(
    config: ExperimentConfig,
    shape: BackboneShape,
    largest: WorkerMemory,
    memory_needed: int,
    resources: Resources,
    evaluations: int,
) -> list[str]:
    advice = []
    on_gpu = config.cluster.gpus_per_worker > 0
    room = resources.gpu_memory_bytes if on_gpu else _share_of_memory(config, resources)
    whole = (
        largest.device
        - largest.weights
        + weights_bytes(config, shape, num_workers=config.cluster.num_workers, stage=2)
    )
    if config.zero.stage == 3 and room is not None and whole < 0.8 * room:
        advice.append(
            "zero.stage 3 saves weight memory only, and here the frozen backbone fits on one "
            "device: 1 or 2 is faster (no gathering in every layer)."
        )
    if config.zero.stage < 3 and room is not None and whole > room:
        advice.append(
            f"one worker needs about {_gib(whole)}, more than the {_gib(room)} it has: set "
            "training.gradient_checkpointing=true, a smaller training.micro_batch_size, "
            "training.precision=bf16, or zero.stage=3 with more workers."
        )
    elif resources.memory_bytes is not None and memory_needed > resources.memory_bytes:
        advice.append(
            f"all workers together need about {_gib(memory_needed)} of main memory and there are "
            f"{_gib(resources.memory_bytes)}: lower search.concurrent_slots or "
            "training.micro_batch_size, or set training.gradient_checkpointing=true."
        )
    if (
        config.search.trial_scheduler == "asha"
        and config.search.asha.grace_evaluations >= evaluations
    ):
        advice.append(
            f"search.asha.grace_evaluations {config.search.asha.grace_evaluations} is not below "
            f"the {evaluations} evaluations of a trial: ASHA will never stop one."
        )
    return advice


def _share_of_memory(config: ExperimentConfig, resources: Resources) -> float | None:
    workers = config.search.concurrent_slots * config.cluster.num_workers
    return None if resources.memory_bytes is None else resources.memory_bytes / workers


def _gib(number: float) -> str:
    return f"{number / 1024**3:.1f} GiB"
