"""Which ZeRO stage and micro-batch fit the device, and why these.

The fact a newcomer gets wrong: the frozen weights decide the stage and the activations decide the
micro-batch and checkpointing. Stages 1 and 2 shard what is trained, which is next to nothing for an
adapter; stage 3 gathers every layer for every micro-batch, so it is the last resort, after
recomputing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from components.backbones import BackboneShape
from components.config.experiment import TrainConfig
from components.planning.memory import WorkerMemory, worker_memory

USABLE = 0.9
"""Share of a device's memory that the estimate may fill: the rest is for what is no tensor (the
CUDA context, kernels, fragments).
"""


@dataclass(frozen=True)
class Recommendation:
    """Settings that fit, in the order of what costs no time first; `device_bytes`: what they take
    there; `reason`: for a person.
    """

    stage: int
    micro_batch_size: int
    gradient_checkpointing: bool
    device_bytes: int
    reason: str


def recommend(
    config: TrainConfig, shape: BackboneShape, *, trainable: int, num_workers: int, room: float
) -> Recommendation | None:
    """For one worker with `room` bytes on its GPU; None where nothing fits. The documents of an
    optimizer step stay as many: a smaller micro-batch is accumulated more often.
    """
    allowed = USABLE * room
    for stage, checkpointing, size in _candidates(config, shape, num_workers):
        memory = _memory(config, shape, stage, checkpointing, size, trainable, num_workers)
        if memory.device <= allowed:
            return Recommendation(
                stage,
                size,
                checkpointing,
                memory.device,
                _reason(config, stage, checkpointing, size, memory),
            )
    return None


def _candidates(
    config: TrainConfig, shape: BackboneShape, num_workers: int
) -> Iterator[tuple[int, bool, int]]:
    whole = min(config.zero.stage, 2)
    sizes, size = [], config.training.micro_batch_size
    while size > 1:
        sizes.append(size)
        size //= 2
    sizes.append(1)
    wanted = config.training.gradient_checkpointing
    sharded = num_workers > 1 and shape.linear_bits is None
    for stage in (whole, 3) if sharded else (whole,):
        for checkpointing in sorted({wanted, True}):
            for each in sizes:
                yield stage, checkpointing, each


def _memory(
    config: TrainConfig,
    shape: BackboneShape,
    stage: int,
    checkpointing: bool,
    size: int,
    trainable: int,
    num_workers: int,
) -> WorkerMemory:
    training = config.training.model_copy(
        update={
            "micro_batch_size": size,
            "gradient_checkpointing": checkpointing,
            "gradient_accumulation_steps": 2
            if size < config.training.micro_batch_size
            else config.training.gradient_accumulation_steps,
        }
    )
    zero = config.zero.model_copy(update={"stage": stage})
    changed = config.model_copy(update={"training": training, "zero": zero})
    return worker_memory(changed, shape, trainable=trainable, num_workers=num_workers, gpu=True)


def _reason(
    config: TrainConfig, stage: int, checkpointing: bool, size: int, memory: WorkerMemory
) -> str:
    parts = [
        f"the frozen weights ({_gib(memory.weights)}) fit whole, so nothing is gathered"
        if stage < 3
        else f"the frozen weights fit in shards alone ({_gib(memory.weights)} with gathered ones)"
    ]
    if checkpointing and not config.training.gradient_checkpointing:
        parts.append("what all layers keep does not fit: they are recomputed, a third more time")
    if size < config.training.micro_batch_size:
        parts.append(f"more than {size} at a time do not fit: accumulate instead")
    parts.append(f"the worst instant is the {memory.worst_instant}")
    return "; ".join(parts)


def _gib(number: float) -> str:
    return f"{number / 1024**3:.1f} GiB"
