"""What a task answers: everything that differs from task to task. One file of this package is one
task (or one package of files); preparation, training, evaluation, plan and predictions ask it.

Everything here works without torch but for what takes or gives tensors. The fact a newcomer gets
wrong: classes, one label per document and cross-entropy are the classification task's own affair.
Elsewhere a document has a target, a model puts out numbers for it, and the task knows what they
are.
Shapes: N documents, B documents of a batch, C columns of a task's outputs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from components.backbones.family import BackboneFamily
from components.data.documents import Example, Problem, Row
from components.data.settings import ColumnsConfig, DataConfig
from components.data.validation import Check, Loaded
from components.settings import Config, Fraction

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from components.data.prepared import TokenizedDocument, TokenizedSplit
    from components.evaluation import LengthBucket, ReliabilityDiagram
    from components.tasks.heads.head import Head

    Outputs = np.ndarray[Any, Any]

Direction = Literal["max", "min"]
HeadForm = Literal["mlp", "linear"]
Sequences = list[list[int]]
"""Token ids of the sequences that one document is."""


class HeadConfig(Config):
    """The trained head. What it predicts comes from the data; a head that pools no row reads none
    of these settings.
    """

    form: HeadForm = "mlp"
    """`mlp`: a hidden layer of D x D with tanh before the classes, the head of the paper and of
    RoBERTa; `linear`: from the row to the classes at once, D C + C parameters. D hidden size, C
    classes.
    """
    pooling: Literal["prefix", "cls", "mean", "last"] = "prefix"
    """Which row is read: first prefix position (of a method without prefix rows: first text
    token), first text token, mean over text tokens, or last text token.
    """
    dropout: Fraction | None = None
    """Dropout probability in the head; null takes the backbone's hidden dropout."""


class TaskHeadConfig(Config):
    """Settings of a task's head, complete: what the public surface takes and the artifact
    stores.
    """

    task: ClassVar[str]


@dataclass(frozen=True)
class Signature:
    """Columns of what a registered adapter takes and answers, by type: `string`, `double`, `list of
    string`, `map of double`.
    """

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Usage:
    """How a registered adapter of the task is described to somebody who finds it."""

    purpose: str
    """What it does: `classify long documents`."""
    frame: str
    """An example of the frame that `predict` takes, as JSON."""
    file: str
    """A name of a file that `prefixprop predict` takes."""


@dataclass(frozen=True)
class Conclusion:
    """What is said of a finished adapter: validation/... and test/... metrics, and what of the rest
    the task has. `calibration` is what calibration.json keeps.
    """

    metrics: dict[str, float]
    calibration: dict[str, Any] = field(default_factory=dict)
    reliability: "ReliabilityDiagram | None" = None
    by_length: "tuple[LengthBucket, ...]" = ()


@dataclass(frozen=True)
class Evaluated:
    """What is said of an adapter on one split. `metrics` are of its answers, `uncalibrated` of
    temperature 1; `confusion`: rows are true labels, columns answers.
    """

    metrics: dict[str, float]
    uncalibrated: dict[str, float]
    confusion: tuple[tuple[int, ...], ...] = ()
    by_length: "tuple[LengthBucket, ...]" = ()
    reliability: "ReliabilityDiagram | None" = None


@runtime_checkable
class Task(Protocol):
    """One task."""

    name: str
    """Value of data.task."""
    words: str
    """Its name in a sentence."""

    # --- documents

    columns: Mapping[str, str]
    """What the cache holds of what is learnt: column -> type in Arrow's words, one number per
    document.
    """
    chunked: bool
    """Whether a document may be several sequences."""
    checks: tuple[Check, ...]
    """What is checked between documents beside copies and ids."""
    has_classes: bool
    """Whether documents belong to classes: tables of classes can be made of them."""
    generates: bool
    """Whether an answer is text that the model writes; else it is made of logits."""

    def examples(
        self, rows: Iterable[Row | Problem], columns: ColumnsConfig
    ) -> tuple[list[Example], list[Problem]]:
        """Checks each row on its own. Raises DataError when no row at all has a needed column."""

    def fitting(
        self, loaded: Loaded, tokenizer: "PreTrainedTokenizerBase", config: DataConfig
    ) -> Loaded:
        """Moves the documents that cannot be tokenised under these settings to the problems."""

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Names of the classes, from the training documents; empty where there are none."""

    def tokenized(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: "PreTrainedTokenizerBase",
        config: DataConfig,
    ) -> "Iterator[list[TokenizedDocument]]":
        """Rows of the cache in order, in lists of a bearable size."""

    def cutting(self, config: DataConfig) -> Mapping[str, object]:
        """Settings beside max_tokens that say how a document is cut into sequences: part of the
        data's fingerprint, kept with the adapter and handed to `encoded`.
        """

    def uncut(self, cutting: Mapping[str, Any]) -> dict[str, Any]:
        """The same as settings below `data`, for evaluating an adapter on other documents."""

    def sequences_per_document(self, config: DataConfig) -> int:
        """The most that one document may be, for the plan; a guess where the settings do not
        say.
        """

    # --- head

    head: type[TaskHeadConfig]
    """Settings of its head."""
    global_text: bool
    """Whether the head makes text rows global beside the first."""
    trains_with_prefix: bool
    """Whether backbone parameters that the paper trains beside a prefix are trained for it."""

    def head_config(
        self,
        section: HeadConfig,
        labels: tuple[str, ...],
        *,
        data: DataConfig,
        tokenizer: "PreTrainedTokenizerBase",
    ) -> TaskHeadConfig:
        """The complete settings of the head, from the experiment's section, the classes of the
        data, their settings and the tokenizer that they were prepared with.
        """

    def build_head(self, config: Any, backbone: "nn.Module", dropout: float) -> "Head":
        """A fresh head; `dropout` is the backbone's own."""

    def head_parameters(self, hidden: int, *, num_labels: int, form: HeadForm) -> int:
        """Trained scalars of the head; `form` is head.form, for a head that reads it."""

    def incompatibility(self, family: BackboneFamily, pooling: str | None) -> str | None:
        """Why it cannot be learnt on this family by a head that pools this row, as a sentence that
        starts with the setting and ends with the fix; None: it can.
        """

    def ignores_document(self, family: BackboneFamily, pooling: str | None) -> str | None:
        """Why a head that pools this row answers the same for every document; None: it does
        not.
        """

    # --- learning

    def batch(
        self, split: "TokenizedSplit", indices: Any, *, pad_token_id: int
    ) -> "dict[str, Tensor]":
        """Arguments of the adapted model for these documents, `labels` among them."""

    def loss(
        self, logits: "Tensor", labels: "Tensor", *, reduction: Literal["sum", "mean"]
    ) -> "Tensor":
        """Summed over, or the mean of, the terms that `terms` counts."""

    def terms(self, split: "TokenizedSplit", indices: Any) -> int:
        """How many terms the loss of these documents has: an optimizer step weighs each of its
        terms the same.
        """

    def subset(self, split: "TokenizedSplit", count: int, seed: int) -> "np.ndarray[Any, Any]":
        """Sorted indices of `count` documents that stand for the split."""

    # --- evaluation

    metrics: Mapping[str, Direction]
    """Metrics that can choose the best evaluation (`validation/...`), and which direction is
    better.
    """

    curves: tuple[str, ...]
    """Those of `measured` that are worth a curve, the telling one first; the others stand in a file
    of the run.
    """

    def outputs(self, logits: "Tensor", labels: "Tensor") -> "Outputs":
        """What evaluation keeps of a batch: (B, C) float32."""

    def measured(
        self, outputs: "Outputs", split: "TokenizedSplit", rows: "np.ndarray[Any, Any]"
    ) -> dict[str, float]:
        """All metrics of the documents `rows` of a split: names without the split."""

    def concluded(
        self, outputs: "Mapping[str, Outputs]", splits: "Mapping[str, TokenizedSplit]"
    ) -> Conclusion:
        """What is said of a finished adapter, from its outputs (N, C) on validation and test."""

    def evaluated(
        self,
        outputs: "Outputs",
        split: "TokenizedSplit",
        *,
        temperature: float,
        data_labels: Sequence[str],
        labels: Sequence[str],
    ) -> Evaluated:
        """What is said of an adapter with these `labels` on a split of other data. Raises DataError
        for a label that it does not know.
        """

    # --- answers

    signature: Signature
    usage: Usage
    input_suffixes: tuple[str, ...]
    """Endings of the files that `inputs` reads."""
    input_words: str
    """What they hold, for a message."""

    def inputs(self, path: Path, *, text_column: str, id_column: str) -> Iterator[tuple[str, Any]]:
        """(id, what is asked) of every row of a file; the first bad row raises DataError."""

    def asked(self, records: Sequence[Mapping[str, Any]]) -> list[Any]:
        """What is asked, from records with the columns of the signature. Raises DataError."""

    def encoded(
        self,
        asked: Sequence[Any],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        max_tokens: int,
        cutting: Mapping[str, Any],
    ) -> list[Sequences]:
        """Token ids of each that is asked."""

    def answered(self, logits: "Tensor", temperature: float) -> "Outputs":
        """(B, C) float32 of a batch, from which `answer` takes a row."""

    def answer(self, asked: Any, row: "Outputs", labels: Sequence[str]) -> dict[str, Any]:
        """One answer, by the columns of the signature."""
