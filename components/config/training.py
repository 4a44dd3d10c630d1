"""Settings of the loop of one trial: the section `training`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.settings import Config, FilePath, PositiveInt
from components.tasks import metric_directions

MOST_EVALUATIONS = 1_000_000
"""Of one trial: each is a report, a checkpoint and a line of its record."""


class TrainingConfig(Config):
    """The loop of one trial."""

    epochs: Annotated[PositiveInt, Field(le=1_000_000)] = 10
    """Passes over the training documents."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimizer steps, also the schedule's length; null: epochs decide."""
    micro_batch_size: PositiveInt = 4
    """Sequences per worker and micro-batch (at most: see tokens_per_batch)."""
    gradient_accumulation_steps: PositiveInt = 1
    """Micro-batches per optimizer step. train_batch_size = micro_batch_size x this x workers, in
    sequences.
    """
    tokens_per_batch: PositiveInt | None = None
    """Token budget of one micro-batch, padding included, prefix excluded: micro-batches over it are
    cut into smaller ones. The optimizer step stays the same. Null: no limit.
    """
    evaluations_per_epoch: Annotated[PositiveInt, Field(le=MOST_EVALUATIONS)] = 1
    """Evaluations on validation data per epoch, evenly spaced by optimizer steps; each is a report
    to the search and a checkpoint.
    """
    evaluation_documents: PositiveInt | None = None
    """During training evaluate on a fixed stratified subset of this many validation documents;
    null: all.
    """
    metric: str = "validation/accuracy"
    """Metric that decides which evaluation is the best one, of those that the task measures:
    validation/ and accuracy, macro_f1 (classification), nll, brier, ece, mce, adaptive_ece or
    ece_upper_edge_10; of language_modelling nll (per token) or perplexity.
    """
    mode: Literal["max", "min"] = Field(
        default_factory=lambda data: metric_directions().get(data.get("metric", ""), "max")
    )
    """Whether a higher or a lower metric is better; where it is not given, what the metric says."""
    precision: Literal["fp32", "bf16", "stored"] = "fp32"
    """Arithmetic of the frozen backbone; `stored`: that of its checkpoint (float32 or bfloat16),
    whose pages workers of one machine then share. The adapter's master weights are always float32.
    """
    warm_start: FilePath | None = None
    """Folder of an adapter of the same method and label set whose values are started from; a longer
    prefix keeps its further rows as drawn. Null: everything as drawn from the seed.
    """
    text_states: Literal["anew", "kept"] = "anew"
    """With adapter.placement suffix or one_way, where a document's states are the same for every
    trial and epoch: read it anew for each batch, or once, and keep its states below
    cluster.cache_path (`plan` says how large they are).
    """
    gradient_checkpointing: bool = False
    """Recompute layers in the backward pass: less memory, about a third more time. With
    adapter.placement suffix (or one_way in a rotary encoder) and text_states anew a document is
    read layer by layer and nothing of its length is kept.
    """
    offload_activations: bool = False
    """Keep the inputs of recomputed layers in main memory until the backward pass: GPUs alone, with
    gradient_checkpointing. For documents whose layer inputs do not fit.
    """
    feed_forward_tile_rows: PositiveInt | None = None
    """Compute a frozen feed-forward part for so many rows of each sequence at a time, and again in
    the backward pass: less memory, a third more of its time. For documents whose one recomputed
    layer does not fit. Null: all rows at once.
    """

    def batch_size(self, num_workers: int) -> int:
        """Sequences per optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps * num_workers

    @model_validator(mode="after")
    def _recomputed_if_offloaded(self) -> "TrainingConfig":
        if self.offload_activations and not self.gradient_checkpointing:
            raise ValueError(
                "offload_activations carries the inputs of recomputed layers, and nothing is "
                "recomputed; set gradient_checkpointing to true"
            )
        return self

    @model_validator(mode="after")
    def _few_evaluations(self) -> "TrainingConfig":
        asked = self.epochs * self.evaluations_per_epoch
        if min(asked, self.max_steps or asked) > MOST_EVALUATIONS:
            raise ValueError(
                f"epochs {self.epochs} x evaluations_per_epoch {self.evaluations_per_epoch} are "
                f"more than {MOST_EVALUATIONS:,} evaluations of one trial; lower one of them, or "
                "set max_steps"
            )
        return self

    @model_validator(mode="after")
    def _known_metric(self) -> "TrainingConfig":
        better = metric_directions()
        if self.metric not in better:
            raise ValueError(f"metric '{self.metric}' is not measured; known: {', '.join(better)}")
        if self.mode != better[self.metric]:
            raise ValueError(
                f"mode {self.mode} would keep the worst evaluation by {self.metric}; remove it, or "
                f"set {better[self.metric]}"
            )
        return self
