"""Memory of one worker while it trains an adapter, in bytes: an estimate from shapes.

The facts a newcomer gets wrong: DeepSpeed's own estimators count frozen parameters as trained
(about 9 times too much here), and a frozen linear layer keeps no input for the backward pass,
because it needs no weight gradient. What autograd keeps of a layer, the family says
(BackboneFamily.activation_numbers).
"""

from dataclasses import dataclass

from components.backbones import BackboneShape, family_named
from components.config.experiment import TrainConfig
from components.tasks import task_named

PROCESS_BYTES = 900 * 1024**2
"""Resident memory of a worker process with torch, transformers, DeepSpeed and Ray imported, before
it loads anything.
"""


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes by purpose."""

    weights: int
    trained: int
    """Trained parameters with their gradients and AdamW's moments, float32."""
    activations: int
    process: int

    @property
    def device(self) -> int:
        """What lies on the device: everything but the process itself."""
        return self.weights + self.trained + self.activations

    @property
    def total(self) -> int:
        """On a machine without a GPU all of it is main memory."""
        return self.device + self.process


def worker_memory(
    config: TrainConfig, shape: BackboneShape, *, trainable: int, num_workers: int
) -> WorkerMemory:
    """Estimate for one of `num_workers` ranks at this point of the space; `trainable` is its number
    of trained scalars.
    """
    return WorkerMemory(
        weights=weights_bytes(config, shape, num_workers=num_workers, stage=config.zero.stage),
        trained=_trained_bytes(trainable, stage=config.zero.stage, num_workers=num_workers),
        activations=activation_bytes(config, shape),
        process=PROCESS_BYTES,
    )


def weights_bytes(
    config: TrainConfig, shape: BackboneShape, *, num_workers: int, stage: int
) -> int:
    """The frozen backbone; at ZeRO stage 3 one shard of it and two gathered layers."""
    size = _bytes_per_number(config)
    if stage < 3:
        return shape.parameters * size
    return (-(-shape.parameters // num_workers) + 2 * shape.largest_layer) * size


def _trained_bytes(trainable: int, *, stage: int, num_workers: int) -> int:
    parameters, gradients, moments = 4 * trainable, 4 * trainable, 8 * trainable
    if stage >= 1:
        moments = -(-moments // num_workers)
    if stage >= 2:
        gradients = -(-gradients // num_workers)
    if stage >= 3:
        parameters = -(-parameters // num_workers)
    return parameters + gradients + moments


def activation_bytes(config: TrainConfig, shape: BackboneShape) -> int:
    """What autograd keeps for one micro-batch at its longest."""
    rows = micro_batch_rows(config)
    numbers = family_named(config.backbone.family).activation_numbers(
        shape,
        stock_attention=config.backbone.attention == "stock",
        prefix_length=config.adapter.prefix_length,
    )
    per_layer = rows * numbers * _bytes_per_number(config)
    if not config.training.gradient_checkpointing:
        return int(shape.layers * per_layer)
    return int(per_layer + shape.layers * rows * shape.hidden * _bytes_per_number(config))


def micro_batch_rows(config: TrainConfig) -> int:
    """Positions of the largest micro-batch, prefix included: a token budget cuts it, but one
    document (all its sequences) is always whole.
    """
    sequences = config.training.micro_batch_size
    chunks = task_named(config.data.task).sequences_per_document(config.data)
    if config.training.tokens_per_batch is not None:
        sequences = max(
            1, min(sequences, config.training.tokens_per_batch // (chunks * config.data.max_tokens))
        )
    return sequences * chunks * (config.data.max_tokens + config.adapter.prefix_length)


def _bytes_per_number(config: TrainConfig) -> int:
    return 2 if config.training.precision == "bf16" else 4
