"""Memory of one worker while it trains, in bytes: what stays, plus the worst of the named instants
of a step. Derived from what the code keeps, nothing fitted
(pipelines/research/benchmark/memory.py measures it).

The facts a newcomer gets wrong: DeepSpeed's own estimators count frozen parameters as trained
(about 9 times too much here), and a frozen linear layer keeps no input for the backward pass,
because it needs no weight gradient. What autograd keeps of a layer, the family says
(BackboneFamily.layer_memory), and what a method adds to that, the method (MethodConfig.kept).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from components.backbones import BackboneShape, family_named
from components.backbones.layer_memory import FLOAT32, LOGITS_AT_ONCE, LayerRun
from components.config.experiment import TrainConfig
from components.planning.activations import activation_instants, offloaded_bytes
from components.planning.trained_memory import times, trained_memory
from components.tasks import task_named

PIECES = 3
"""Of logits, their exponentials and products: what stands at once in a language model's loss."""
PROCESS_BYTES = 900 * 1024**2
"""Resident memory of a worker process with torch, transformers, DeepSpeed and Ray imported, before
it loads anything.
"""


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes by purpose."""

    weights: int
    """Frozen weights, at ZeRO-3 a shard and what is gathered."""
    trained: int
    """Trained parameters, DeepSpeed's copies of them and AdamW's moments, float32."""
    instants: Mapping[str, int] = field(default_factory=dict, hash=False)
    """What comes on top at the named instants of a step: activations, gradients, buckets."""
    activations: int = 0
    """Of these the most."""
    process: int = PROCESS_BYTES
    host: int = 0
    """Main memory: the pretrained values of backbone parameters that are trained, and offloaded
    activations.
    """

    @property
    def worst_instant(self) -> str:
        return max(self.instants, key=lambda name: self.instants[name], default="")

    @property
    def device(self) -> int:
        """What lies on the device: everything but the process itself and what it keeps beside."""
        return self.weights + self.trained + self.activations

    @property
    def total(self) -> int:
        """On a machine without a GPU all of it is main memory."""
        return self.device + self.host + self.process


def worker_memory(
    config: TrainConfig,
    shape: BackboneShape,
    *,
    trainable: int,
    num_workers: int,
    gpu: bool = False,
    side_by_side: int = 1,
) -> WorkerMemory:
    """Estimate for one of `num_workers` ranks at this point of the space; `trainable` is its number
    of trained scalars, `gpu` whether it lies on one, `side_by_side` how many such trainings share
    the backbone, each with documents of its own (at the same step they have the same ones).
    """
    all_weights = config.adapter.kept(shape).all_weights
    trained = trained_memory(
        trainable,
        stage=config.zero.stage,
        num_workers=num_workers,
        bucket_elements=config.zero.reduce_bucket_size,
        gpu=gpu,
    )
    trained = times(trained, side_by_side)
    shape = _with_own_dropout(config, shape)
    run = replace(layer_run(config, shape, gpu=gpu), side_by_side=side_by_side)
    family = family_named(config.backbone.family)
    offloaded = config.training.offload_activations
    activations = activation_instants(
        family,
        shape,
        run,
        checkpointing=config.training.gradient_checkpointing,
        offloaded=offloaded,
    )
    # Gradients of several micro-batches are there all along, those of one come with the backward
    # pass: all of them beside its last layer's, the first of the backbone.
    steps = config.training.gradient_accumulation_steps > 1
    gradients = trained.after_backward if steps else (trained.bucket if gpu else 0)
    whole_head = task_named(config.data.task).generates
    beside = gradients + dequantised_bytes(config, shape)
    beside += PIECES * FLOAT32 * LOGITS_AT_ONCE if whole_head else 0
    instants = {name: number + beside for name, number in activations.items()}
    first_layer = family.layer_memory(shape, run)
    if run.kept.in_layers and not run.kept.text_apart:
        instants["backward of the first layer"] = (
            first_layer.outside
            + first_layer.kept
            + max(first_layer.backward.values())
            + dequantised_bytes(config, shape)
            + trained.after_backward
        )
    instants["reduction"] = trained.reduction
    instants["update"] = trained.update
    own = shape.parameters if all_weights else shape.trained_with_prefix
    weights = weights_bytes(config, shape, num_workers=num_workers, stage=config.zero.stage)
    if whole_head:
        weights += shape.embeddings * number_bytes(config, shape)
    return WorkerMemory(
        weights=weights,
        trained=trained.stays,
        instants=instants,
        activations=max(instants.values()),
        process=PROCESS_BYTES,
        host=FLOAT32 * own + (offloaded_bytes(family, shape, run) if offloaded else 0),
    )


def _with_own_dropout(config: TrainConfig, shape: BackboneShape) -> BackboneShape:
    hidden, attention = config.backbone.hidden_dropout, config.backbone.attention_dropout
    return replace(
        shape,
        hidden_dropout=shape.hidden_dropout if hidden is None else hidden,
        attention_dropout=shape.attention_dropout if attention is None else attention,
    )


def weights_bytes(
    config: TrainConfig, shape: BackboneShape, *, num_workers: int, stage: int
) -> int:
    """The frozen backbone; at ZeRO stage 3 one shard of it and what is gathered. Nothing where all
    of it is trained: it is counted there.
    """
    size = number_bytes(config, shape)
    if config.adapter.kept(shape).all_weights:
        return size * gathered_elements(config, shape) if stage == 3 else 0
    if stage < 3:
        return shape.parameters * size - quantised_saving(config, shape)
    shard = -(-shape.parameters // num_workers)
    return (shard + gathered_elements(config, shape)) * size


def quantised_saving(config: TrainConfig, shape: BackboneShape) -> int:
    """Bytes that linear layers take less than in training.precision, where they stay quantised."""
    if shape.linear_bits is None:
        return 0
    bits = 8 * number_bytes(config, shape) - shape.linear_bits
    return int(shape.linear_parameters * bits / 8)


def dequantised_bytes(config: TrainConfig, shape: BackboneShape) -> int:
    """The weights of the linear module at work, which bitsandbytes and torchao write out in
    training.precision for every product, forward and backward.
    """
    return 0 if shape.linear_bits is None else shape.largest_linear * number_bytes(config, shape)


def gathered_elements(config: TrainConfig, shape: BackboneShape) -> int:
    """Weights that a rank of ZeRO-3 holds whole at the worst instant: the largest linear module
    while it is computed with (training/zero3.py: nothing is gathered ahead, nothing stays; frozen
    embeddings answer from shards), and what may stay whole for its next use. What is recomputed
    stays whole until its backward pass: a layer, or the feed-forward part in tiles.
    """
    live = (config.zero.max_live_parameters or 0) + config.zero.prefetch_bucket_size
    whole = shape.largest_linear
    if config.training.gradient_checkpointing:
        whole = shape.largest_layer
    elif config.training.feed_forward_tile_rows is not None:
        widths = (shape.linear_widths[name] for name in shape.inside_feed_forward)
        whole = max(whole, sum(rows * columns for rows, columns in widths))
    return min(shape.parameters, live + whole)


def layer_run(config: TrainConfig, shape: BackboneShape, *, gpu: bool) -> LayerRun:
    """The largest micro-batch going through the layers."""
    kept = config.adapter.kept(shape)
    task, pooling = task_named(config.data.task), config.head.pooling
    candidates = not task.has_classes
    return LayerRun(
        sequences=micro_batch_sequences(config),
        rows=config.data.max_tokens + kept.rows,
        number_bytes=number_bytes(config, shape),
        kept=kept,
        gpu=gpu,
        stock_attention=config.backbone.attention == "stock",
        hooked=config.zero.stage == 3,
        reads_one_row=not task.generates and (candidates or pooling != "mean"),
        tile_rows=config.training.feed_forward_tile_rows,
        reads_global_row=candidates or pooling in ("prefix", "cls"),
        text_stays=config.training.text_states == "kept",
    )


def micro_batch_sequences(config: TrainConfig) -> int:
    """Sequences of the largest micro-batch: a token budget cuts it, but one document (all its
    sequences) is always whole.
    """
    sequences = config.training.micro_batch_size
    chunks = task_named(config.data.task).sequences_per_document(config.data)
    if config.training.tokens_per_batch is not None:
        sequences = max(
            1, min(sequences, config.training.tokens_per_batch // (chunks * config.data.max_tokens))
        )
    return sequences * chunks


def number_bytes(config: TrainConfig, shape: BackboneShape) -> int:
    """Bytes of a number of the backbone."""
    by_name = {"fp32": 4, "bf16": 2, "stored": shape.stored_bytes}
    return by_name[config.training.precision]
