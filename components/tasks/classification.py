"""Classification: each document is one text with one label; the softmax runs over the classes."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from components.backbones.family import BackboneFamily
from components.data.batching import collate, stratified_subset
from components.data.columns import listed
from components.data.documents import Example, Problem, Row
from components.data.lookalikes import plain, shown, shown_exactly
from components.data.prepared import TokenizedDocument, TokenizedSplit
from components.data.settings import ColumnsConfig, DataConfig
from components.data.tokenization import Encoded, encode
from components.data.validation import Check, Loaded
from components.errors import DataError
from components.settings import Texts
from components.tasks import probabilities
from components.tasks.labelled_text import (
    class_names,
    labelled_documents,
    labelled_texts,
    without_labels_unknown_to_train,
    without_lookalike_labels,
)
from components.tasks.task import (
    Conclusion,
    Direction,
    Evaluated,
    HeadConfig,
    HeadForm,
    Sequences,
    Signature,
    TaskHeadConfig,
    Usage,
)
from components.tasks.text_inputs import TEXT_SUFFIXES, text_inputs, truncated

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from components.tasks.heads.head import Head

    Outputs = np.ndarray[Any, Any]


MOST_LABELS = 100_000
"""More classes than any document is sorted into: a head of so many is still built at once."""


class ClassificationHeadConfig(TaskHeadConfig, HeadConfig):
    """A head with its classes: what the public surface takes and the artifact stores."""

    task: ClassVar[str] = "classification"
    num_labels: Annotated[int, Field(ge=2, le=MOST_LABELS)]
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
        if repeated := [label for label, count in Counter(self.labels or ()).items() if count > 1]:
            raise ValueError(f"labels holds {repeated[0]!r} twice; every class has its own name")
        return self


class Classification:
    """See Task."""

    name = "classification"
    words = "classification"
    columns: Mapping[str, str] = {"label_id": "int64"}
    chunked = False
    checks: tuple[Check, ...] = (without_lookalike_labels, without_labels_unknown_to_train)
    has_classes = True
    generates = False
    head: type[TaskHeadConfig] = ClassificationHeadConfig
    global_text = False
    trains_with_prefix = True
    metrics: Mapping[str, Direction] = {
        "validation/accuracy": "max",
        "validation/macro_f1": "max",
        **{f"validation/{name}": better for name, better in probabilities.CALIBRATED.items()},
    }
    curves: tuple[str, ...] = ("accuracy", "macro_f1", "nll", "ece")
    signature = Signature(
        inputs={"text": "string"}, outputs={"label": "string", "probabilities": "map of double"}
    )
    usage = Usage(
        purpose="classify long documents",
        frame='{"text": ["a long document ..."]}',
        file="documents.jsonl",
    )
    input_suffixes: tuple[str, ...] = TEXT_SUFFIXES
    input_words = "documents (.jsonl, .csv or .parquet)"

    def examples(
        self, rows: Iterable[Row | Problem], columns: ColumnsConfig
    ) -> tuple[list[Example], list[Problem]]:
        return labelled_texts(rows, columns)

    def fitting(
        self, loaded: Loaded, tokenizer: "PreTrainedTokenizerBase", config: DataConfig
    ) -> Loaded:
        return loaded

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        return class_names(examples)

    def tokenized(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: "PreTrainedTokenizerBase",
        config: DataConfig,
    ) -> Iterator[list[TokenizedDocument]]:
        def encode_texts(texts: Sequence[str]) -> Iterator[list[Encoded]]:
            return encode(texts, tokenizer, max_tokens=config.max_tokens)

        return labelled_documents(examples, labels, encode_texts)

    def cutting(self, config: DataConfig) -> Mapping[str, object]:
        return {}

    def uncut(self, cutting: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def sequences_per_document(self, config: DataConfig) -> int:
        return 1

    def head_config(
        self,
        section: HeadConfig,
        labels: tuple[str, ...],
        *,
        data: DataConfig,
        tokenizer: "PreTrainedTokenizerBase",
    ) -> ClassificationHeadConfig:
        return ClassificationHeadConfig(
            pooling=section.pooling,
            dropout=section.dropout,
            form=section.form,
            num_labels=len(labels),
            labels=labels,
        )

    def build_head(self, config: Any, backbone: "nn.Module", dropout: float) -> "Head":
        from components.tasks.heads.classification import build

        return build(config, backbone, dropout)

    def head_parameters(self, hidden: int, *, num_labels: int, form: HeadForm) -> int:
        return (hidden + 1) * (num_labels if form == "linear" else hidden + num_labels)

    def incompatibility(self, family: BackboneFamily, pooling: str | None) -> str | None:
        return None

    def ignores_document(self, family: BackboneFamily, pooling: str | None) -> str | None:
        if family.rows_see_all_text or pooling not in ("prefix", "cls"):
            return None
        return (
            f"head.pooling {pooling} reads a row that comes before the document in a {family.name} "
            "and cannot see it, so every document gets the same answer; use last or mean"
        )

    def batch(
        self, split: TokenizedSplit, indices: Any, *, pad_token_id: int
    ) -> "dict[str, Tensor]":
        return collate(split, indices, pad_token_id=pad_token_id)

    def loss(
        self, logits: "Tensor", labels: "Tensor", *, reduction: Literal["sum", "mean"]
    ) -> "Tensor":
        return probabilities.cross_entropy(logits, labels, reduction=reduction)

    def terms(self, split: TokenizedSplit, indices: Any) -> int:
        return len(indices)

    def subset(self, split: TokenizedSplit, count: int, seed: int) -> "np.ndarray[Any, Any]":
        return stratified_subset(split.label_ids, count, seed)

    def outputs(self, logits: "Tensor", labels: "Tensor") -> "Outputs":
        return probabilities.kept(logits)

    def measured(
        self, outputs: "Outputs", split: TokenizedSplit, rows: "np.ndarray[Any, Any]"
    ) -> dict[str, float]:
        return _measured(outputs, split.label_ids[rows])

    def concluded(
        self, outputs: "Mapping[str, Outputs]", splits: "Mapping[str, TokenizedSplit]"
    ) -> Conclusion:
        return probabilities.concluded(_measured, outputs, splits)

    def evaluated(
        self,
        outputs: "Outputs",
        split: TokenizedSplit,
        *,
        temperature: float,
        data_labels: Sequence[str],
        labels: Sequence[str],
    ) -> Evaluated:
        import numpy as np

        from components.evaluation import classification_metrics

        label_ids = np.array(ids_in(labels, data_labels, split))[split.label_ids]
        confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
        np.add.at(confusion, (label_ids, outputs.argmax(axis=1)), 1)
        return probabilities.evaluated(
            lambda found: classification_metrics(found, label_ids),
            outputs,
            label_ids,
            split,
            temperature=temperature,
            confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        )

    def inputs(self, path: Path, *, text_column: str, id_column: str) -> Iterator[tuple[str, str]]:
        return text_inputs(path, text_column=text_column, id_column=id_column)

    def asked(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        return [record["text"] for record in records]

    def encoded(
        self,
        asked: Sequence[str],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        max_tokens: int,
        cutting: Mapping[str, Any],
    ) -> list[Sequences]:
        return truncated(asked, tokenizer, max_tokens=max_tokens)

    def answered(self, logits: "Tensor", temperature: float) -> "Outputs":
        return probabilities.softmax_of(logits, temperature)

    def answer(self, asked: str, row: "Outputs", labels: Sequence[str]) -> dict[str, Any]:
        return {
            "label": labels[int(row.argmax())],
            "probabilities": dict(zip(labels, (float(value) for value in row), strict=True)),
        }


def ids_in(labels: Sequence[str], data_labels: Sequence[str], split: TokenizedSplit) -> list[int]:
    """Class of each of the data's labels in the order of `labels`, -1 where the adapter does not
    know it. Raises DataError where the split holds such a one.
    """
    present = {data_labels[index] for index in set(split.label_ids.tolist())}
    unknown = sorted(present - set(labels))
    if unknown:
        raise DataError(_unknown_label(unknown[0], data_labels, labels, split))
    ids = {label: index for index, label in enumerate(labels)}
    return [ids.get(label, -1) for label in data_labels]


def _unknown_label(
    label: str, data_labels: Sequence[str], labels: Sequence[str], split: TokenizedSplit
) -> str:
    carriers = (split.label_ids == data_labels.index(label)).nonzero()[0]
    place = f" (document '{shown(split.ids[carriers[0]])}')"
    twin = next((known for known in labels if plain(known) == plain(label)), None)
    fix = (
        "Evaluate it on data with these labels."
        if twin is None
        else f"It looks like '{shown_exactly(twin)}', but is written '{shown_exactly(label)}': "
        "write it as the adapter does."
    )
    return (
        f"The data hold the label '{shown(label)}'{place}, which the adapter does not know. Its "
        f"labels: {listed(labels)}. {fix}"
    )


def _measured(logits_NC: "Outputs", label_ids_N: "Outputs") -> dict[str, float]:
    from components.evaluation import classification_metrics, softmax

    return classification_metrics(softmax(logits_NC), label_ids_N)


CLASSIFICATION = Classification()
