"""The configuration of an experiment: every setting, its meaning, unit and range.

One YAML file is one `ExperimentConfig`. A trial's point of the search space turns it into a `TrainConfig`, validated again. Frozen and strict: an unknown key, a number
given as text or a value out of range is an error that names its dotted path. No torch, ray, deepspeed or mlflow is imported here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class Config(BaseModel):
    """Base of every section: frozen, strict, no unknown keys, attribute docstrings as descriptions."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


class BackboneConfig(Config):
    """The frozen pretrained model."""

    source: Literal["hub", "local", "installed"] = "hub"
    """Where the weights come from: a hub id, a local folder, or an installed Python package that carries them (no hub needed)."""
    name_or_path: Annotated[str, Field(min_length=1)]
    """Hub id, folder, or for `installed` the name of the model: `all-MiniLM-L6-v2`."""
    revision: str | None = None
    """Hub commit, tag or branch; null takes the default branch. Only for `hub`."""
    family: Literal["longformer", "decoder"]
    """Which backbone family reads it (components/backbones)."""
    lengthen_to: Annotated[int, Field(gt=0)] | None = None
    """Turn a BERT or RoBERTa checkpoint into a Longformer with this many positions (tokens). Null: load as it is."""
    attention_window: Annotated[int, Field(gt=0, multiple_of=2)] = 256
    """Width of the local attention window in tokens (both sides together). Only read with `lengthen_to`."""
    attention: Literal["auto", "stock"] = "auto"
    """`auto`: the fastest exact attention for this machine; `stock`: the transformers implementation as it is."""
    hidden_dropout: Fraction | None = None
    """Dropout probability inside the frozen backbone's layers while training; null keeps the checkpoint's own."""
    attention_dropout: Fraction | None = None
    """Dropout probability on attention weights while training; null keeps the checkpoint's own."""


class PrefixPropagationConfig(Config):
    """Prefix-propagation (Li et al., ACL 2023): trainable vectors added to the first P hidden states before every layer."""

    method: Literal["prefix_propagation"] = "prefix_propagation"
    prefix_length: PositiveInt = 8
    """Prefix length P in positions."""
    dropout: Fraction | None = None
    """Dropout probability on the prefix, drawn per example; null takes the backbone's hidden dropout."""
    init_std: Annotated[float, Field(gt=0.0)] = 0.02
    """Standard deviation of the normal initialisation."""
    reparametrization: Literal["none", "mlp"] = "none"
    """`mlp`: Embedding(P, D) -> Linear(D, hidden) -> Tanh -> Linear(hidden, L*D), stored materialised."""
    reparametrization_hidden: PositiveInt = 512
    """Hidden width of the reparametrisation. Only read with `mlp`."""


AdapterConfig = PrefixPropagationConfig


class HeadConfig(Config):
    """The trained classification head. The labels come from the data."""

    pooling: Literal["prefix", "cls", "mean", "last"] = "prefix"
    """Which row is classified: first prefix position, first text token, mean over text tokens, or last text token."""
    dropout: Fraction | None = None
    """Dropout probability in the head; null takes the backbone's hidden dropout."""


class ClassificationHeadConfig(HeadConfig):
    """A head with its classes: what the public surface takes and the artifact stores."""

    num_labels: Annotated[int, Field(ge=2)]
    """Number of classes C."""
    labels: tuple[str, ...] | None = None
    """Names of the classes in the order of the logits."""

    @model_validator(mode="after")
    def _labels_match(self) -> "ClassificationHeadConfig":
        if self.labels is not None and len(self.labels) != self.num_labels:
            raise ValueError(f"num_labels is {self.num_labels} but {len(self.labels)} labels are named; make them agree")
        return self


class ColumnsConfig(Config):
    """Which columns of the source hold what."""

    text: str = "text"
    """Column of the document."""
    label: str = "label"
    """Column of the class (text or integer)."""
    id: str | None = "id"
    """Column of a unique id; null or absent in the data: ids are made from file name and row number."""


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


class DataConfig(Config):
    """The documents. Exactly one of `files`, `hub` and `installed_source` is given."""

    files: FilesConfig | None = None
    """Local files."""
    hub: HubConfig | None = None
    """A hub data set."""
    installed_source: InstalledSourceConfig | None = None
    """Offline task made from the source code of installed libraries."""
    columns: ColumnsConfig = ColumnsConfig()
    """Column mapping of `files` and `hub`."""
    on_invalid: Literal["fail", "drop"] = "fail"
    """What to do with invalid rows: stop with the first ones named, or drop and report them."""
    max_tokens: PositiveInt = 1024
    """Documents are truncated to this many tokens, special tokens included, prefix excluded."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """Share of train carved for validation where the source has none (stratified, deterministic)."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.15
    """Share of train carved for test where the source has none (stratified, deterministic)."""
    max_documents: PositiveInt | None = None
    """Keep at most this many documents per split (stratified, deterministic); null keeps all."""
    split_seed: int = 10
    """Seed of carving and capping."""

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        given = [name for name in ("files", "hub", "installed_source") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of files, hub, installed_source; got {', '.join(given) or 'none'}")
        return self


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


class TrainingConfig(Config):
    """The loop of one trial."""

    epochs: PositiveInt = 10
    """Passes over the training documents."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimizer steps, also the schedule's length; null: epochs decide."""
    micro_batch_size: PositiveInt = 4
    """Sequences per worker and micro-batch (at most: see tokens_per_batch)."""
    gradient_accumulation_steps: PositiveInt = 1
    """Micro-batches per optimizer step. train_batch_size = micro_batch_size x this x workers, in sequences."""
    tokens_per_batch: PositiveInt | None = None
    """Token budget of one micro-batch, padding included, prefix excluded: micro-batches over it are cut into smaller ones. The optimizer step stays the same. Null: no limit."""
    evaluations_per_epoch: PositiveInt = 1
    """Evaluations on validation data per epoch, evenly spaced by optimizer steps; each is a report to the search and a checkpoint."""
    evaluation_documents: PositiveInt | None = None
    """During training evaluate on a fixed stratified subset of this many validation documents; null: all."""
    metric: str = "validation/accuracy"
    """Metric that decides which evaluation is the best one."""
    mode: Literal["max", "min"] = "max"
    """Whether a higher or a lower metric is better."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the frozen backbone; the adapter's master weights are always float32."""
    gradient_checkpointing: bool = False
    """Recompute layers in the backward pass: less memory, about a third more time."""


class ZeroConfig(Config):
    """DeepSpeed ZeRO."""

    stage: Annotated[int, Field(ge=0, le=3)] = 2
    """0: none; 1: optimizer states sharded; 2: and gradients; 3: and parameters (for a backbone that does not fit on one device)."""
    param_persistence_threshold: Annotated[int, Field(ge=0)] = 10_000
    """Stage 3: parameters with fewer elements stay whole on every worker."""
    reduce_bucket_size: PositiveInt = 50_000_000
    """Elements reduced in one collective."""


class TrainConfig(Config):
    """Everything that decides the outcome of one trial."""

    seed: int = 10
    """Seed of initialisation, data order and dropout."""
    backbone: BackboneConfig
    adapter: AdapterConfig = PrefixPropagationConfig()
    head: HeadConfig = HeadConfig()
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    zero: ZeroConfig = ZeroConfig()


class Choice(Config):
    choice: Annotated[tuple[Any, ...], Field(min_length=1)]
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
    grid: Annotated[tuple[Any, ...], Field(min_length=1)]
    """Every one of these values; trials are repeated for each."""


DOMAIN_KINDS = ("choice", "log_uniform", "uniform", "integer", "grid")


def _domain_kind(value: Any) -> str | None:
    keys = list(value) if isinstance(value, dict) else [name for name in DOMAIN_KINDS if hasattr(value, name)]
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
        custom_error_message="expected one of {choice: [...]}, {log_uniform: [low, high]}, {uniform: [low, high]}, {integer: [low, high]}, {grid: [...]}",
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
    searcher: Literal["random", "grid"] = "random"
    """`grid`: every combination of the choices; `random`: num_trials independent draws."""
    num_trials: PositiveInt = 16
    """Number of draws of the random searcher (times the size of any grid)."""
    trial_scheduler: Literal["asha", "none"] = "asha"
    """`asha` stops trials that fall behind; `none` runs every trial to its end."""
    asha: AshaConfig = AshaConfig()
    concurrent_slots: PositiveInt = 1
    """Trial slots that run at the same time; each holds one worker group with the backbone loaded."""
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
    """Folder for checkpoints and results; on more than one node it must be shared storage."""
    cache_path: str = ".prefixprop/cache"
    """Folder for tokenised data and lengthened backbones; on more than one node it must be shared storage."""
    placement_timeout_seconds: PositiveInt = 120
    """A trial slot that cannot be placed within this time ends the search with a clear message."""


class RegistryConfig(Config):
    """Where runs and adapters are kept."""

    kind: Literal["mlflow", "memory"] = "mlflow"
    """`memory` keeps nothing after the process: for tests and dry runs."""
    model_name: str | None = None
    """Name of the registered adapter; null takes the experiment's name."""


class ExperimentConfig(TrainConfig):
    """One experiment: a training configuration, what to search in it, and where it runs."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the experiment, in MLflow too: letters, digits, dot, dash, underscore."""
    description: str = ""
    """One line for people."""
    search: SearchConfig = SearchConfig()
    cluster: ClusterConfig = ClusterConfig()
    registry: RegistryConfig = RegistryConfig()

    @property
    def model_name(self) -> str:
        return self.registry.model_name or self.name

    @property
    def train_batch_size(self) -> int:
        """Sequences per optimizer step over all workers."""
        return self.training.micro_batch_size * self.training.gradient_accumulation_steps * self.cluster.num_workers

    def train_config(self) -> TrainConfig:
        """The part that decides a trial's outcome, without name, search, cluster and registry."""
        return TrainConfig.model_validate({name: getattr(self, name) for name in TrainConfig.model_fields})
