"""Which ZeRO stage, micro-batch and way of keeping activations fit the device, and why these.

The fact a newcomer gets wrong: the frozen weights decide the stage and the activations decide the
micro-batch and how they are kept. Stages 1 and 2 shard what is trained, which is next to nothing
for an adapter; stage 3 gathers every layer for every micro-batch, so it is the last resort, after
everything that keeps less.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from components.backbones import BackboneShape, family_named
from components.config.experiment import TrainConfig
from components.planning.feasibility import tiling_obstacle
from components.planning.memory import WorkerMemory, worker_memory

USABLE = 0.9
"""Share of a device's memory that the estimate may fill: the rest is for what is no tensor (the
CUDA context, kernels, fragments).
"""


TILE_ROWS = 1024
"""Of a tile that is recommended: what is inside it is small beside what is kept of a long document,
and its products are still large ones (backbones/README.md has figures).
"""


@dataclass(frozen=True)
class Rung:
    """How activations are kept."""

    gradient_checkpointing: bool
    offload_activations: bool
    feed_forward_tile_rows: int | None

    def settings(self) -> dict[str, bool | int | None]:
        """Of the section `training`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True)
class Recommendation:
    """Settings that fit, in the order of what costs no time first; `device_bytes`: what they take
    there; `reason`: for a person.
    """

    stage: int
    micro_batch_size: int
    rung: Rung
    device_bytes: int
    reason: str


def recommend(
    config: TrainConfig, shape: BackboneShape, *, trainable: int, num_workers: int, room: float
) -> Recommendation | None:
    """For one worker with `room` bytes on its GPU; None where nothing fits. The documents of an
    optimizer step stay as many: a smaller micro-batch is accumulated more often.
    """
    allowed = USABLE * room
    for stage, rung, size in _candidates(config, shape, num_workers):
        changed = _changed(config, stage, rung, size)
        memory = worker_memory(
            changed, shape, trainable=trainable, num_workers=num_workers, gpu=True
        )
        if memory.device <= allowed:
            reason = _reason(config, stage, rung, size, memory)
            return Recommendation(stage, size, rung, memory.device, reason)
    return None


def _candidates(
    config: TrainConfig, shape: BackboneShape, num_workers: int
) -> Iterator[tuple[int, Rung, int]]:
    whole = min(config.zero.stage, 2)
    sizes, size = [], config.training.micro_batch_size
    while size > 1:
        sizes.append(size)
        size //= 2
    sizes.append(1)
    sharded = num_workers > 1 and shape.linear_bits is None
    for stage in (whole, 3) if sharded else (whole,):
        for rung in rungs(config, shape):
            for each in sizes:
                yield stage, rung, each


def rungs(config: TrainConfig, shape: BackboneShape) -> list[Rung]:
    """The ladder of long documents, from what is configured upwards: layers recomputed, their
    inputs offloaded, the feed-forward part in tiles where it can be.
    """
    now = config.training
    ladder = [Rung(now.gradient_checkpointing, now.offload_activations, now.feed_forward_tile_rows)]
    if not config.adapter.kept(shape).in_layers:
        return ladder
    further: list[dict[str, bool | int]] = [
        {"gradient_checkpointing": True},
        {"offload_activations": True},
    ]
    if tiling_obstacle(config, family_named(config.backbone.family), shape) is None:
        further.append({"feed_forward_tile_rows": now.feed_forward_tile_rows or TILE_ROWS})
    for step in further:
        higher = replace(ladder[-1], **step)  # type: ignore[arg-type]
        if higher != ladder[-1]:
            ladder.append(higher)
    return ladder


def _changed(config: TrainConfig, stage: int, rung: Rung, size: int) -> TrainConfig:
    now = config.training
    steps = 2 if size < now.micro_batch_size else now.gradient_accumulation_steps
    training = now.model_copy(
        update={
            "micro_batch_size": size,
            "gradient_accumulation_steps": steps,
            **rung.settings(),
        }
    )
    zero = config.zero.model_copy(update={"stage": stage})
    return config.model_copy(update={"training": training, "zero": zero})


def _reason(config: TrainConfig, stage: int, rung: Rung, size: int, memory: WorkerMemory) -> str:
    parts = [
        f"the frozen weights ({_gib(memory.weights)}) fit whole, so nothing is gathered"
        if stage < 3
        else f"the frozen weights fit in shards alone ({_gib(memory.weights)} with gathered ones)"
    ]
    now = config.training
    if rung.gradient_checkpointing and not now.gradient_checkpointing:
        parts.append("what all layers keep does not fit: they are recomputed, a third more time")
    if rung.offload_activations and not now.offload_activations:
        parts.append("their inputs do not fit either: they wait in main memory")
    if rung.feed_forward_tile_rows and not now.feed_forward_tile_rows:
        parts.append("one recomputed layer does not fit: its feed-forward part goes in tiles")
    if size < now.micro_batch_size:
        parts.append(f"more than {size} at a time do not fit: accumulate instead")
    parts.append(f"the worst instant is the {memory.worst_instant}")
    return "; ".join(parts)


def _gib(number: float) -> str:
    return f"{number / 1024**3:.1f} GiB"
