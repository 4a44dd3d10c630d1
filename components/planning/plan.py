"""The plan of trainings on a cluster: every distinct size of them with parameters and memory, what
they need together, and advice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.backbones import BackboneShape, backbone_shape, quantization_of
from components.config.experiment import TrainConfig
from components.config.steps import most_evaluations, most_steps
from components.planning.capacity import Capacity
from components.planning.counts import num_labels_of, training_documents
from components.planning.feasibility import check_feasible, check_offloading, check_resources
from components.planning.measured import Measured
from components.planning.memory import (
    WorkerMemory,
    weights_bytes,
    worker_memory,
)
from components.planning.placement import Node, check_placement
from components.planning.recommend import USABLE, Recommendation, recommend
from components.planning.side_by_side import side_by_side_advice
from components.planning.text_states import keeping_advice, states_bytes_per_token
from components.planning.trained_parameters import trainable_parameters
from components.planning.wanted import Wanted

LESS_WEIGHT = ", zero.stage=3 with more workers, or backbone.quantization=nf4"


@dataclass(frozen=True)
class Resources:
    """What the cluster has, or this machine where no cluster runs; None for what is not known."""

    source: str
    cpus: float | None = None
    gpus: float | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    """Of its smallest GPU."""
    gpu_kinds: tuple[str, ...] = ()
    gpu_source: str = ""
    """Who told of the GPUs' memory, or why it is not known."""
    nodes: tuple[Node, ...] = ()
    """Of the cluster; none where no cluster runs."""


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
    fits: bool | None = None
    """Whether its device part fits the room of a worker; None where the room is not known."""


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
    concurrent_trials: int | None = None
    """Trials of the slots that would find a place at once, as far as cores, GPUs and main memory
    go.
    """
    recommendation: Recommendation | None = None
    """For the largest point on the cluster's GPUs; None without GPUs of known memory, and where
    nothing fits.
    """
    measured: Measured | None = None
    """A trial of this kind that ran here: needed memory and what fits are corrected by it."""
    seconds_per_trial: float | None = None
    """At most, at the measured rate; None: none was measured, or the steps are not known."""
    train_documents: int | None = None
    """As the settings tell, or as the measured trial had them; None: not known."""
    capacity: Capacity | None = None
    """How many slots of how many workers; None: not asked for, or no rate is known."""
    states_bytes_per_token: int | None = None
    """On disk, of documents whose states training.text_states keeps; None: none are kept."""
    quantization: str | None = None
    """How the backbone's weights are quantised; None: they are not."""
    trials_per_slot: int = 1
    """Trained side by side in each slot."""
    side_by_side_obstacle: str | None = None
    """Why trials cannot be trained side by side; None: they can."""


def make_plan(
    wanted: Wanted,
    backbone_json: Mapping[str, Any],
    resources: Resources | None = None,
    measured: Measured | None = None,
) -> Plan:
    """Plan trainings on a cluster; `measured`: a trial of this kind that ran there. Raises
    ConfigError where they cannot work (`check_feasible`, `check_resources`, `check_placement`).
    """
    resources = resources or Resources(source="unknown")
    check_feasible(wanted.trainings, backbone_json)
    cluster = wanted.cluster
    check_offloading(wanted.trainings, cluster)
    if resources.cpus is not None:
        check_resources(
            cluster, slots=wanted.slots, cpus=resources.cpus, gpus=resources.gpus or 0.0
        )
    if resources.nodes:
        check_placement(cluster, slots=wanted.slots, nodes=resources.nodes)
    shape, first = backbone_shape(backbone_json), wanted.settings[0]
    quantization = quantization_of(backbone_json)
    num_labels = num_labels_of(first.data)
    factor = 1.0 if measured is None else measured.memory_factor
    room = _room(wanted, resources)
    points = _distinct_points(wanted, shape, num_labels or 2, room=room and room / factor)
    largest = max((point.memory for point in points), key=lambda memory: memory.total)
    beside = largest.host + largest.process
    per_worker = beside if cluster.gpus_per_worker else int(largest.total * factor)
    counted = None if measured is None else measured.train_documents
    documents = counted or training_documents(first.data)
    steps = most_steps(
        wanted.settings,
        num_documents=documents,
        world_size=cluster.num_workers,
    )
    return Plan(
        experiment=wanted.name,
        backbone=first.backbone.name_or_path,
        backbone_parameters=shape.parameters,
        backbone_positions=shape.positions,
        num_labels=num_labels,
        points=points,
        trials=wanted.trials,
        evaluations_per_trial=evaluations_at_most(wanted),
        train_batch_size=first.training.batch_size(cluster.num_workers),
        steps_per_trial=steps,
        slots=wanted.slots,
        workers_per_slot=cluster.num_workers,
        cpus_needed=wanted.workers * cluster.cpus_per_worker,
        gpus_needed=wanted.workers * cluster.gpus_per_worker,
        memory_needed_bytes=wanted.workers * per_worker,
        resources=resources,
        advice=tuple(
            _advice(wanted, shape, largest, wanted.workers * per_worker, resources, room=room)
            + side_by_side_advice(wanted, shape, num_labels or 2, room=room)
            + keeping_advice(wanted, shape, documents)
        ),
        concurrent_trials=_concurrent(wanted, per_worker, resources),
        states_bytes_per_token=states_bytes_per_token(wanted.settings, shape)
        if any(training.training.text_states == "kept" for training in wanted.settings)
        else None,
        quantization=None if quantization is None else quantization.kind,
        recommendation=_recommendation(wanted, shape, num_labels or 2, room),
        measured=measured,
        seconds_per_trial=None
        if measured is None or steps is None
        else steps * measured.seconds_per_step,
        train_documents=documents,
        trials_per_slot=wanted.trials_per_slot,
        side_by_side_obstacle=wanted.obstacle,
    )


def _room(wanted: Wanted, resources: Resources) -> float | None:
    """Bytes that a worker's device part may take: its GPU's, or its share of main memory."""
    if wanted.cluster.gpus_per_worker:
        if resources.gpu_memory_bytes is None:
            return None
        return resources.gpu_memory_bytes * min(1.0, wanted.cluster.gpus_per_worker)
    return None if resources.memory_bytes is None else resources.memory_bytes / wanted.workers


def _concurrent(wanted: Wanted, per_worker: int, resources: Resources) -> int | None:
    """Trials of all slots that find a place at once."""
    cluster = wanted.cluster
    limits = [
        int(have / (cluster.num_workers * each))
        for have, each in (
            (resources.cpus, cluster.cpus_per_worker),
            (resources.gpus, cluster.gpus_per_worker),
            (resources.memory_bytes, per_worker),
        )
        if have is not None and each
    ]
    return wanted.trials_per_slot * min(limits) if limits else None


def _recommendation(
    wanted: Wanted, shape: BackboneShape, num_labels: int, room: float | None
) -> Recommendation | None:
    """For the training that needs most, where it is alone in its slot."""
    if room is None or not wanted.cluster.gpus_per_worker or wanted.trials_per_slot > 1:
        return None
    workers = wanted.cluster.num_workers

    def trainable(training: TrainConfig) -> int:
        return trainable_parameters(
            shape,
            training.adapter,
            num_labels=num_labels,
            task=training.data.task,
            head_form=training.head.form,
        )

    largest = max(
        wanted.settings,
        key=lambda training: (
            worker_memory(
                training, shape, trainable=trainable(training), num_workers=workers, gpu=True
            ).device
        ),
    )
    return recommend(largest, shape, trainable=trainable(largest), num_workers=workers, room=room)


def _distinct_points(
    wanted: Wanted, shape: BackboneShape, num_labels: int, *, room: float | None
) -> tuple[PointPlan, ...]:
    points = {_point(training, shape, num_labels, wanted, room) for training in wanted.settings}
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
    point: TrainConfig,
    shape: BackboneShape,
    num_labels: int,
    wanted: Wanted,
    room: float | None,
) -> PointPlan:
    cluster = wanted.cluster
    trainable = trainable_parameters(
        shape,
        point.adapter,
        num_labels=num_labels,
        task=point.data.task,
        head_form=point.head.form,
    )
    memory = worker_memory(
        point,
        shape,
        trainable=trainable,
        num_workers=cluster.num_workers,
        gpu=cluster.gpus_per_worker > 0,
        side_by_side=wanted.trials_per_slot,
    )
    taken = memory.device if cluster.gpus_per_worker else memory.total
    usable = USABLE if cluster.gpus_per_worker else 1.0
    return PointPlan(
        prefix_length=point.adapter.prefix_length,
        micro_batch_size=point.training.micro_batch_size,
        trainable_parameters=trainable,
        positions=point.data.max_tokens + point.adapter.prefix_length,
        memory=memory,
        fits=None if room is None else taken <= usable * room,
    )


def evaluations_at_most(wanted: Wanted) -> int:
    """Evaluations of any training at most; fewer where an epoch has fewer steps than
    evaluations.
    """
    data = wanted.settings[0].data
    # A limit does not say how few there are.
    documents = training_documents(data) if data.max_documents is None else None
    return most_evaluations(
        wanted.settings, num_documents=documents, world_size=wanted.cluster.num_workers
    )


def _advice(
    wanted: Wanted,
    shape: BackboneShape,
    largest: WorkerMemory,
    memory_needed: int,
    resources: Resources,
    *,
    room: float | None,
) -> list[str]:
    advice, first, cluster = [], wanted.settings[0], wanted.cluster
    if cluster.gpus_per_worker and room is None and resources.gpus:
        advice.append(
            f"whether it fits is not known: {resources.gpu_source or 'no node tells its GPU'}."
        )
    whole = (
        largest.device
        - largest.weights
        + weights_bytes(first, shape, num_workers=cluster.num_workers, stage=2)
    )
    if first.zero.stage == 3 and room is not None and whole < 0.8 * room:
        advice.append(
            "zero.stage 3 saves weight memory only, and here the frozen backbone fits on one "
            "device: 1 or 2 is faster (no gathering in every layer)."
        )
    if first.zero.stage < 3 and room is not None and whole > room:
        advice.append(
            f"one worker needs about {_gib(whole)}, more than the {_gib(room)} it has: set "
            "training.gradient_checkpointing=true, a smaller training.micro_batch_size, "
            "training.precision=bf16, training.feed_forward_tile_rows"
            f"{LESS_WEIGHT if shape.linear_bits is None else ''}."
        )
    elif resources.memory_bytes is not None and memory_needed > resources.memory_bytes:
        advice.append(
            f"all workers together need about {_gib(memory_needed)} of main memory and there are "
            f"{_gib(resources.memory_bytes)}: lower search.concurrent_slots or "
            "training.micro_batch_size, or set training.gradient_checkpointing=true."
        )
    evaluations = evaluations_at_most(wanted)
    if wanted.grace_evaluations is not None and wanted.grace_evaluations >= evaluations:
        advice.append(
            f"search.asha.grace_evaluations {wanted.grace_evaluations} is not below "
            f"the {evaluations} evaluations of a trial: ASHA will never stop one."
        )
    return advice


def _gib(number: float) -> str:
    return f"{number / 1024**3:.1f} GiB"
