"""The configuration of an experiment: every setting, its meaning, unit and range.

One YAML file is one `ExperimentConfig`. A trial's point of the search space turns it into a
`TrainConfig`, validated again. Frozen and strict: an unknown key, a number given as text or a value
out of range is an error that names its dotted path. No torch, ray, deepspeed or mlflow is imported
here.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from components.config.compatibility import FamilyName, why_not

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0)]
Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]
"""A tuple of texts; a list from Python is taken too."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Task = Literal["classification", "multiple_choice"]


class Config(BaseModel):
    """Base of every section: frozen, strict, no unknown keys, attribute docstrings as
    descriptions.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True
    )


class BackboneConfig(Config):
    """The frozen pretrained model."""

    source: Literal["hub", "local", "installed"] = "hub"
    """Where the weights come from: a hub id, a local folder, or an installed Python package that
    carries them (no hub needed).
    """
    name_or_path: Annotated[str, Field(min_length=1)]
    """Hub id, folder, or for `installed` the name of the model: `all-MiniLM-L6-v2`."""
    revision: str | None = None
    """Hub commit, tag or branch; null takes the default branch. Only for `hub`."""
    family: FamilyName
    """Which backbone family reads it (components/backbones)."""
    lengthen_to: Annotated[int, Field(gt=0)] | None = None
    """Turn a BERT or RoBERTa checkpoint into a Longformer with this many positions (tokens). Null:
    load as it is.
    """
    attention_window: Annotated[int, Field(gt=0, multiple_of=2)] = 256
    """Width of the local attention window in tokens (both sides together). Only read with
    `lengthen_to`.
    """
    attention: Literal["auto", "stock"] = "auto"
    """`auto`: the fastest exact attention for this machine; `stock`: the transformers
    implementation as it is.
    """
    hidden_dropout: Fraction | None = None
    """Dropout probability inside the frozen backbone's layers while training; null keeps the
    checkpoint's own.
    """
    attention_dropout: Fraction | None = None
    """Dropout probability on attention weights while training; null keeps the checkpoint's own."""

    @model_validator(mode="after")
    def _has_this_dropout(self) -> "BackboneConfig":
        if self.hidden_dropout is not None and self.family == "decoder":
            raise ValueError(
                "hidden_dropout: the decoders of this family have no such dropout; remove it "
                "(adapter.dropout and head.dropout are their own)"
            )
        return self


class _NoPrefix(Config):
    """A method without prefix positions."""

    @property
    def prefix_length(self) -> int:
        """Positions beside the text: none."""
        return 0


class _Prefix(Config):
    """What every trained prefix has."""

    prefix_length: PositiveInt = 8
    """Prefix length P in positions."""
    dropout: Fraction | None = None
    """Dropout probability on the prefix, drawn per example; null takes the backbone's hidden
    dropout.
    """
    init_std: Annotated[float, Field(gt=0.0)] = 0.02
    """Standard deviation of the normal initialisation."""


class _ReparametrizedPrefix(_Prefix):
    """A prefix that a small network may produce while it is trained."""

    reparametrization: Literal["none", "mlp"] = "none"
    """`mlp`: Embedding(P, D) -> Linear(D, hidden) -> Tanh -> Linear(hidden, ...), stored
    materialised.
    """
    reparametrization_hidden: PositiveInt = 512
    """Hidden width of the reparametrisation. Only read with `mlp`."""


class PrefixPropagationConfig(_ReparametrizedPrefix):
    """Prefix-propagation (Li et al., ACL 2023): trainable vectors added to the first P hidden
    states before every layer.
    """

    method: Literal["prefix_propagation"] = "prefix_propagation"
    rank: PositiveInt | None = None
    """Rank r of a low-rank prefix, P_l = U_l V with U_l (P, r) for each layer and one V (r, D): L P
    r + r D parameters in place of L P D. Null: a full one.
    """
    placement: Literal["prefix", "suffix"] = "prefix"
    """`suffix`, for causal decoders: P positions after the document, which see it; head.pooling
    last then classifies the last of them. Not for longformer.
    """

    @model_validator(mode="after")
    def _one_form(self) -> "PrefixPropagationConfig":
        if self.rank is not None and self.reparametrization != "none":
            raise ValueError(
                "rank and reparametrization are two ways to produce a prefix; remove one"
            )
        return self


class PrefixTuningConfig(_ReparametrizedPrefix):
    """Prefix-tuning (P-tuning v2): trainable keys and values that every position of every layer
    sees.
    """

    method: Literal["prefix_tuning"] = "prefix_tuning"
    released_indexing: bool = False
    """Only for comparison with the paper's release: its index error, by which text rows 1..P take
    the global path, on Longformer.
    """


class PropagationAndPrefixTuningConfig(_ReparametrizedPrefix):
    """Prefix-propagation and prefix-tuning together, each with its own P positions."""

    method: Literal["propagation_and_prefix_tuning"] = "propagation_and_prefix_tuning"
    released_indexing: bool = False
    """Only for comparison with the paper's release: see prefix_tuning."""


class PromptTuningConfig(_Prefix):
    """Prompt-tuning: trainable embeddings of P positions before the text, at the first layer
    only.
    """

    method: Literal["prompt_tuning"] = "prompt_tuning"


class AdaptivePrefixPropagationConfig(_Prefix):
    """Prefix-propagation with a trained gate per layer and prefix position."""

    method: Literal["adaptive_prefix_propagation"] = "adaptive_prefix_propagation"


class AdaptivePrefixTuningConfig(_Prefix):
    """Prefix-tuning with a trained gate per layer and prefix position on its keys and values."""

    method: Literal["adaptive_prefix_tuning"] = "adaptive_prefix_tuning"


class _KernelPrefix(_Prefix):
    """A prefix outside the softmax: a kernel smoother over it, added with a trained factor alpha
    per layer.
    """

    kernel: Literal["exp", "rbf", "polynomial"] = "exp"
    """K'(q, k): exp(q.k/sqrt(E)), exp(-|q-k|^2 / (2 lengthscale^2)), or (q.k/sqrt(E) + 1)^2, E the
    head size.
    """
    lengthscale: Annotated[float, Field(gt=0.0)] = 64.0
    """Width of the RBF kernel. Only read with `rbf`."""
    alpha_init: float = 0.005
    """Starting value of alpha in every layer."""


class KernelPrefixConfig(_KernelPrefix):
    """Prefix-tuning's trained keys and values, kernel-decomposed."""

    method: Literal["kernel_prefix"] = "kernel_prefix"


class KernelPropagationConfig(_KernelPrefix):
    """Prefix-propagation's rows, kernel-decomposed. Only for longformer backbones."""

    method: Literal["kernel_propagation"] = "kernel_propagation"


class PrefixMemoryConfig(_NoPrefix):
    """Prefix memory ("Prefix-Tuning+"): a trained matrix per layer and head, phi(q) M added to the
    attention's output. It has no prefix length.
    """

    method: Literal["prefix_memory"] = "prefix_memory"


class LoraConfig(_NoPrefix):
    """LoRA, by the peft library: a trained low-rank update of chosen matrices."""

    method: Literal["lora"] = "lora"
    rank: PositiveInt = 8
    """Rank r: r * (in + out) trained parameters per matrix."""
    alpha: Annotated[float, Field(gt=0.0)] = 16.0
    """Scale: the update is multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout probability on the update's input."""
    targets: Annotated[Texts, Field(min_length=1)] | None = None
    """Names of linear modules inside each layer; null takes the family's query and value
    projections.
    """


class FullFineTuningConfig(_NoPrefix):
    """All weights of the backbone are trained."""

    method: Literal["full_fine_tuning"] = "full_fine_tuning"


class HeadOnlyConfig(_NoPrefix):
    """Only the classification head is trained: the control."""

    method: Literal["head_only"] = "head_only"


ADAPTER_CONFIGS: dict[str, type[Config]] = {
    "prefix_propagation": PrefixPropagationConfig,
    "prefix_tuning": PrefixTuningConfig,
    "prompt_tuning": PromptTuningConfig,
    "propagation_and_prefix_tuning": PropagationAndPrefixTuningConfig,
    "head_only": HeadOnlyConfig,
    "full_fine_tuning": FullFineTuningConfig,
    "lora": LoraConfig,
    "adaptive_prefix_propagation": AdaptivePrefixPropagationConfig,
    "adaptive_prefix_tuning": AdaptivePrefixTuningConfig,
    "prefix_memory": PrefixMemoryConfig,
    "kernel_prefix": KernelPrefixConfig,
    "kernel_propagation": KernelPropagationConfig,
}
"""Every value of adapter.method with its settings; components/adapters implements each."""


def _adapter_method(value: Any) -> Any:
    return (
        value.get("method", "prefix_propagation")
        if isinstance(value, dict)
        else getattr(value, "method", None)
    )


AdapterConfig = Annotated[
    Annotated[PrefixPropagationConfig, Tag("prefix_propagation")]
    | Annotated[PrefixTuningConfig, Tag("prefix_tuning")]
    | Annotated[PromptTuningConfig, Tag("prompt_tuning")]
    | Annotated[PropagationAndPrefixTuningConfig, Tag("propagation_and_prefix_tuning")]
    | Annotated[HeadOnlyConfig, Tag("head_only")]
    | Annotated[FullFineTuningConfig, Tag("full_fine_tuning")]
    | Annotated[LoraConfig, Tag("lora")]
    | Annotated[AdaptivePrefixPropagationConfig, Tag("adaptive_prefix_propagation")]
    | Annotated[AdaptivePrefixTuningConfig, Tag("adaptive_prefix_tuning")]
    | Annotated[PrefixMemoryConfig, Tag("prefix_memory")]
    | Annotated[KernelPrefixConfig, Tag("kernel_prefix")]
    | Annotated[KernelPropagationConfig, Tag("kernel_propagation")],
    Discriminator(
        _adapter_method,
        custom_error_type="adapter_method",
        custom_error_message="adapter.method is unknown. Known: " + ", ".join(ADAPTER_CONFIGS),
    ),
]


class HeadConfig(Config):
    """The trained classification head. The labels come from the data."""

    pooling: Literal["prefix", "cls", "mean", "last"] = "prefix"
    """Which row is classified: first prefix position (of a method without prefix rows: first text
    token), first text token, mean over text tokens, or last text token.
    """
    dropout: Fraction | None = None
    """Dropout probability in the head; null takes the backbone's hidden dropout."""


class ClassificationHeadConfig(HeadConfig):
    """A head with its classes: what the public surface takes and the artifact stores."""

    task: ClassVar[Task] = "classification"
    num_labels: Annotated[int, Field(ge=2)]
    """Number of classes C."""
    labels: Texts | None = None
    """Names of the classes in the order of the logits."""

    @model_validator(mode="after")
    def _labels_match(self) -> "ClassificationHeadConfig":
        if self.labels is not None and len(self.labels) != self.num_labels:
            raise ValueError(
                f"num_labels is {self.num_labels} but {len(self.labels)} labels are named; make "
                "them agree"
            )
        return self


class MultipleChoiceHeadConfig(Config):
    """A head that scores the candidates of each question (WikiHop); their number may differ from
    question to question. It has no settings.
    """

    task: ClassVar[Task] = "multiple_choice"


AnyHeadConfig = ClassificationHeadConfig | MultipleChoiceHeadConfig

HEAD_CONFIGS: dict[Task, type[ClassificationHeadConfig] | type[MultipleChoiceHeadConfig]] = {
    "classification": ClassificationHeadConfig,
    "multiple_choice": MultipleChoiceHeadConfig,
}
"""Every task with the settings of its head; components/adapters implements each head,
components/data each task's documents.
"""


class ColumnsConfig(Config):
    """Which columns of the source hold what."""

    text: str = "text"
    """Column of the document."""
    label: str = "label"
    """Column of the class (text or integer)."""
    id: str | None = "id"
    """Column of a unique id; null or absent in the data: ids are made from file name and row
    number.
    """


class FilesConfig(Config):
    """Local files, one per split: .jsonl, .jsonl.gz, .csv, .csv.gz or .parquet."""

    train: str
    """Path of the training documents."""
    validation: str | None = None
    """Path of the validation documents; null carves them from train."""
    test: str | None = None
    """Path of the test documents; null carves them from train."""


class HubConfig(Config):
    """A data set on the hub."""

    name: str
    """Data set id."""
    config_name: str | None = None
    """Configuration of the data set; null takes the default one."""
    revision: str | None = None
    """Commit, tag or branch."""
    train: str = "train"
    """Name of the training split."""
    validation: str | None = None
    """Name of the validation split; null carves it from train."""
    test: str | None = None
    """Name of the test split; null carves it from train."""


class InstalledSourceConfig(Config):
    """Source files of installed libraries as documents; the label is the library."""

    libraries: Annotated[tuple[str, ...], Field(min_length=2)]
    """Import names of installed packages: the classes."""
    min_tokens: PositiveInt = 1000
    """Documents shorter than this many tokens are left out."""
    documents_per_library: PositiveInt = 60
    """At most this many documents per class, over all splits."""


class QangarooConfig(Config):
    """Multiple-choice questions with supporting documents, in the form of WikiHop's release: JSON
    files (.json, .json.gz) that hold one list of records.
    """

    train: str
    """Path of the training questions: [{"id", "query", "answer", "candidates": [...], "supports":
    [...]}, ...].
    """
    validation: str | None = None
    """Path of the validation questions; null carves them from train."""
    test: str | None = None
    """Path of the test questions; null carves them from train."""
    max_chunks: PositiveInt | None = None
    """Keep at most this many chunks of max_tokens per question, and leave the rest of its supports
    out; null keeps all.
    """


class NeedleConfig(Config):
    """Generated documents in which one short passage, the needle, decides the label
    (components/data/needle.py).
    """

    lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (512, 1024)
    """Lengths of training and validation documents in tokens, special tokens included, taken in
    turn; a document is at most one sentence shorter. At most data.max_tokens.
    """
    test_lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    """Lengths of test documents; null: as `lengths`."""
    depths: Annotated[tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...], Field(min_length=1)] = (
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
    )
    """Where the needle stands, taken in turn: 0 is the start of the document, 1 its end."""
    sentences: Annotated[int, Field(ge=1, le=4)] = 1
    """Sentences of a needle, and of a distractor."""
    labels: Annotated[int, Field(ge=2, le=6)] = 4
    """Number of classes."""
    distractors: Annotated[int, Field(ge=0)] = 3
    """Passages of the needle's form about other subjects, at random places of every document."""
    train_documents: PositiveInt = 400
    """Documents of the training split. Splits whose size is a multiple of lengths x depths x labels
    are balanced exactly.
    """
    validation_documents: PositiveInt = 40
    """Documents of the validation split."""
    test_documents: PositiveInt = 160
    """Documents of the test split."""


class DataConfig(Config):
    """The documents. Exactly one of `files`, `hub`, `installed_source`, `needle` and `qangaroo` is
    given; the last one makes the task multiple choice.
    """

    files: FilesConfig | None = None
    """Local files."""
    hub: HubConfig | None = None
    """A hub data set."""
    installed_source: InstalledSourceConfig | None = None
    """Offline task made from the source code of installed libraries."""
    needle: NeedleConfig | None = None
    """Generated task whose deciding passage stands at a chosen depth of documents of a chosen
    length.
    """
    qangaroo: QangarooConfig | None = None
    """Multiple-choice questions (WikiHop)."""
    columns: ColumnsConfig = ColumnsConfig()
    """Column mapping of `files` and `hub`."""
    on_invalid: Literal["fail", "drop"] = "fail"
    """What to do with invalid rows: stop with the first ones named, or drop and report them."""
    max_tokens: PositiveInt = 1024
    """Documents are truncated to this many tokens, special tokens included, prefix excluded. A
    multiple-choice question is cut into chunks of at most so many.
    """
    validation_from: Literal["train", "test"] = "train"
    """Which split validation is carved from where the source has none; `test` needs a source with
    test documents.
    """
    validation_fraction: Annotated[float, Field(gt=0.0, le=0.5)] = 0.15
    """Share of that split carved for validation where the source has none (stratified,
    deterministic).
    """
    test_fraction: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """Share of train carved for test where the source has none (stratified, deterministic)."""
    max_documents: PositiveInt | None = None
    """Keep at most this many documents per split (stratified, deterministic); null keeps all."""
    split_seed: Seed = 10
    """Seed of carving and capping."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        sources = ("files", "hub", "installed_source", "needle", "qangaroo")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of {', '.join(sources)}; got {', '.join(given) or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _needles_fit(self) -> "DataConfig":
        longest = (
            max((*self.needle.lengths, *(self.needle.test_lengths or ())))
            if self.needle is not None
            else 0
        )
        if longest > self.max_tokens:
            raise ValueError(
                f"needle has documents of {longest} tokens, which max_tokens {self.max_tokens} "
                "would cut; raise data.max_tokens"
            )
        return self

    @property
    def task(self) -> Task:
        """What is learnt from these documents."""
        return "classification" if self.qangaroo is None else "multiple_choice"


class OptimizerConfig(Config):
    """AdamW and the learning-rate schedule."""

    learning_rate: Annotated[float, Field(gt=0.0)] = 5e-3
    """Peak learning rate."""
    betas: Annotated[tuple[Fraction, Fraction], Field()] = (0.9, 0.999)
    """AdamW's moment decay rates."""
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    """AdamW's epsilon."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """AdamW's decoupled weight decay."""
    max_gradient_norm: Annotated[float, Field(gt=0.0)] | None = 1.0
    """Clip the global gradient norm to this; null: no clipping."""
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Shape after the warm-up, down to zero at the last step (`constant`: no decay)."""
    warmup_ratio: Fraction = 0.1
    """Share of all optimizer steps with linearly rising learning rate."""


BETTER: dict[str, Literal["max", "min"]] = {
    "validation/accuracy": "max",
    "validation/macro_f1": "max",
    "validation/nll": "min",
    "validation/brier": "min",
    "validation/ece": "min",
    "validation/mce": "min",
    "validation/adaptive_ece": "min",
    "validation/ece_upper_edge_10": "min",
}
"""Metrics that can choose the best evaluation, and which direction is better."""


class TrainingConfig(Config):
    """The loop of one trial."""

    epochs: PositiveInt = 10
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
    evaluations_per_epoch: PositiveInt = 1
    """Evaluations on validation data per epoch, evenly spaced by optimizer steps; each is a report
    to the search and a checkpoint.
    """
    evaluation_documents: PositiveInt | None = None
    """During training evaluate on a fixed stratified subset of this many validation documents;
    null: all.
    """
    metric: str = "validation/accuracy"
    """Metric that decides which evaluation is the best one: validation/ and accuracy, macro_f1
    (classification), nll, brier, ece, mce, adaptive_ece or ece_upper_edge_10.
    """
    mode: Literal["max", "min"] = "max"
    """Whether a higher or a lower metric is better; where it is not given, what the metric says."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the frozen backbone; the adapter's master weights are always float32."""
    gradient_checkpointing: bool = False
    """Recompute layers in the backward pass: less memory, about a third more time."""

    def batch_size(self, num_workers: int) -> int:
        """Sequences per optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps * num_workers

    @model_validator(mode="before")
    @classmethod
    def _mode_of_metric(cls, values: Any) -> Any:
        if isinstance(values, dict) and "mode" not in values and values.get("metric") in BETTER:
            return values | {"mode": BETTER[values["metric"]]}
        return values

    @model_validator(mode="after")
    def _known_metric(self) -> "TrainingConfig":
        if self.metric not in BETTER:
            raise ValueError(f"metric '{self.metric}' is not measured; known: {', '.join(BETTER)}")
        if self.mode != BETTER[self.metric]:
            raise ValueError(
                f"mode {self.mode} would keep the worst evaluation by {self.metric}; remove it, or "
                f"set {BETTER[self.metric]}"
            )
        return self


class ZeroConfig(Config):
    """DeepSpeed ZeRO."""

    stage: Annotated[int, Field(ge=0, le=3)] = 2
    """0: none; 1: optimizer states sharded; 2: and gradients; 3: and parameters (for a backbone
    that does not fit on one device).
    """
    param_persistence_threshold: Annotated[int, Field(ge=0)] = 10_000
    """Stage 3: parameters with fewer elements stay whole on every worker."""
    reduce_bucket_size: PositiveInt = 50_000_000
    """Elements reduced in one collective."""


class TrainConfig(Config):
    """Everything that decides the outcome of one trial."""

    seed: Seed = 10
    """Seed of initialisation, data order and dropout."""
    backbone: BackboneConfig
    adapter: AdapterConfig = PrefixPropagationConfig()
    head: HeadConfig = HeadConfig()
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    zero: ZeroConfig = ZeroConfig()

    @model_validator(mode="after")
    def _method_fits(self) -> "TrainConfig":
        reason = why_not(
            self.adapter,
            family=self.backbone.family,
            task=self.data.task,
            pooling=self.head.pooling,
        )
        if reason is not None:
            raise ValueError(reason)
        if self.adapter.method == "full_fine_tuning" and self.training.precision != "fp32":
            raise ValueError(
                "adapter.method full_fine_tuning needs training.precision fp32: bf16 rounds small "
                "updates away"
            )
        if self.data.task == "multiple_choice" and self.training.metric == "validation/macro_f1":
            raise ValueError(
                "training.metric validation/macro_f1 is a mean over classes, which data.qangaroo "
                "has not; use validation/accuracy"
            )
        return self


def holds_repeats(values: Sequence[Any]) -> bool:
    """Whether two of these plain values are equal."""
    return len({json.dumps(value, sort_keys=True) for value in values}) < len(values)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if holds_repeats(values):
        raise ValueError(
            f"{list(values)} holds a value twice, which would train the same trial twice: leave "
            "one out"
        )
    return values


Values = Annotated[tuple[Any, ...], Field(min_length=1), AfterValidator(_different)]


class Choice(Config):
    choice: Values
    """One of these values, drawn uniformly (grid searcher: each of them)."""


class LogUniform(Config):
    log_uniform: Annotated[tuple[float, float], Field()]
    """Float between low and high, uniform in its logarithm."""

    @model_validator(mode="after")
    def _ordered(self) -> "LogUniform":
        low, high = self.log_uniform
        if not 0.0 < low < high:
            raise ValueError(f"log_uniform needs 0 < low < high, got [{low}, {high}]")
        return self


class Uniform(Config):
    uniform: Annotated[tuple[float, float], Field()]
    """Float between low and high."""

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        if not self.uniform[0] < self.uniform[1]:
            raise ValueError(f"uniform needs low < high, got {list(self.uniform)}")
        return self


class Integer(Config):
    integer: Annotated[tuple[int, int], Field()]
    """Integer from low to high, both included."""

    @model_validator(mode="after")
    def _ordered(self) -> "Integer":
        if not self.integer[0] <= self.integer[1]:
            raise ValueError(f"integer needs low <= high, got {list(self.integer)}")
        return self


class Grid(Config):
    grid: Values
    """Every one of these values; trials are repeated for each."""


DOMAIN_KINDS = ("choice", "log_uniform", "uniform", "integer", "grid")


def _domain_kind(value: Any) -> str | None:
    keys = (
        list(value)
        if isinstance(value, dict)
        else [name for name in DOMAIN_KINDS if hasattr(value, name)]
    )
    return keys[0] if len(keys) == 1 and keys[0] in DOMAIN_KINDS else None


Domain = Annotated[
    Annotated[Choice, Tag("choice")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[Integer, Tag("integer")]
    | Annotated[Grid, Tag("grid")],
    Discriminator(
        _domain_kind,
        custom_error_type="domain",
        custom_error_message=(
            "expected one of {choice: [...]}, {log_uniform: [low, high]}, {uniform: [low, high]}, "
            "{integer: [low, high]}, {grid: [...]}"
        ),
    ),
]


class AshaConfig(Config):
    """Asynchronous successive halving, in units of evaluations."""

    grace_evaluations: PositiveInt = 1
    """Every trial gets at least this many evaluations."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """At each rung one in this many trials goes on."""


class SearchConfig(Config):
    """What Ray Tune searches, and how."""

    space: Annotated[dict[str, Domain], Field(min_length=1)] = {
        "adapter.prefix_length": Choice(choice=(4, 8, 16, 32)),
        "optimizer.learning_rate": Choice(choice=(5e-4, 1e-3, 5e-3, 7e-3, 1e-2, 5e-2)),
    }
    """Dotted config path -> domain."""
    searcher: Literal["random", "grid", "optuna"] = "random"
    """`grid`: every combination of the choices; `random`: num_trials draws, none of them twice;
    `optuna`: num_trials points, each chosen by the results so far (TPE; needs the extra `optuna`).
    """
    num_trials: PositiveInt = 16
    """Number of points of the random (times the size of any grid) and the optuna searcher."""
    trial_scheduler: Literal["asha", "none"] = "asha"
    """`asha` stops trials that fall behind; `none` runs every trial to its end."""
    asha: AshaConfig = AshaConfig()
    concurrent_slots: PositiveInt = 1
    """Trial slots that run at the same time; each holds one worker group with the backbone loaded.
    """
    reuse_trials: bool = True
    """Go on from a trial of an earlier search of this experiment where configuration, documents and
    code are the same, instead of training it again.
    """
    max_failures: Annotated[int, Field(ge=0)] = 1
    """How often a trial whose worker died is started again from its last checkpoint."""


class ClusterConfig(Config):
    """What one trial slot takes from the cluster."""

    num_workers: PositiveInt = 1
    """Ray Train workers (ranks) per trial slot."""
    cpus_per_worker: Annotated[float, Field(gt=0.0)] = 1.0
    """CPU cores per worker; also its number of torch threads, rounded down to at least one."""
    gpus_per_worker: Annotated[float, Field(ge=0.0)] = 0.0
    """GPUs per worker."""
    storage_path: str = ".prefixprop/storage"
    """Folder for checkpoints and results; on more than one node it must be shared storage.
    Relative: below the folder that one works in; in a job on a cluster of others, below the home
    folder.
    """
    cache_path: str = ".prefixprop/cache"
    """Folder for tokenised data and lengthened backbones; on more than one node it must be shared
    storage. Relative: as storage_path.
    """
    placement_timeout_seconds: PositiveInt = 120
    """A trial slot that cannot be placed within this time ends the search with a clear message."""


class RegistryConfig(Config):
    """Where runs and adapters are kept."""

    kind: Literal["mlflow", "memory"] = "mlflow"
    """`memory` keeps nothing after the process: for tests and dry runs."""
    model_name: Name | None = None
    """Name of the registered adapter: letters, digits, dot, dash, underscore; null takes the
    experiment's name.
    """


class KernelStudyConfig(Config):
    """What `prefixprop study kernel` measures; how adapters are trained and on what is the
    experiment's own.
    """

    kernels: Annotated[tuple[Literal["exp", "rbf", "polynomial"], ...], Field(min_length=1)] = (
        "exp",
        "rbf",
        "polynomial",
    )
    """Kernels of the decomposed methods that are trained beside the softmax ones."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (10,)
    """Every method is trained with each of these seeds."""
    mass_lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (
        256,
        512,
        1024,
        2048,
        4096,
    )
    """The prefix's share of attention is measured on the first so many tokens of test documents."""
    mass_documents: PositiveInt = 8
    """Test documents of at least the largest of these lengths."""
    alpha_documents: PositiveInt = 32
    """Training documents on which the decomposition's alphas are fitted to the softmax model."""


class LengthStudyConfig(Config):
    """What `prefixprop study length` compares; the experiment's own `data` is the needle task."""

    methods: Annotated[tuple[Literal[tuple(ADAPTER_CONFIGS)], ...], Field(min_length=2)] = (  # type: ignore[valid-type]
        "prefix_propagation",
        "prefix_tuning",
        "head_only",
    )
    """Values of adapter.method; the first one is compared with each of the others."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (10, 11)
    """Every method is trained with each of these seeds."""
    real: DataConfig | None = None
    """Real documents, on which accuracy and calibration are reported by length beside the needle
    task. Null: the needle task alone.
    """
    real_epochs: PositiveInt = 2
    """Passes over the real training documents; everything else is as for the needle task."""
    real_learning_rate: Annotated[float, Field(gt=0.0)] | None = None
    """Peak learning rate on the real documents; null: the experiment's own."""


class StudyConfig(Config):
    """What `prefixprop study` varies; other commands do not read it."""

    kernel: KernelStudyConfig | None = None
    """Settings of `prefixprop study kernel`."""
    length: LengthStudyConfig | None = None
    """Settings of `prefixprop study length`."""


class ExperimentConfig(TrainConfig):
    """One experiment: a training configuration, what to search in it, and where it runs."""

    name: Name
    """Name of the experiment, in MLflow too: letters, digits, dot, dash, underscore."""
    description: str = ""
    """One line for people."""
    search: SearchConfig = SearchConfig()
    cluster: ClusterConfig = ClusterConfig()
    registry: RegistryConfig = RegistryConfig()
    study: StudyConfig = StudyConfig()

    @property
    def model_name(self) -> str:
        return self.registry.model_name or self.name

    @property
    def train_batch_size(self) -> int:
        """Sequences per optimizer step over all workers."""
        return self.training.batch_size(self.cluster.num_workers)

    def train_config(self) -> TrainConfig:
        """The part that decides a trial's outcome, without name, search, cluster and registry."""
        return TrainConfig.model_validate(
            {name: getattr(self, name) for name in TrainConfig.model_fields}
        )
