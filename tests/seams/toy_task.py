"""A task in one file: regression. One number per text, mean squared error, no classes and no
calibration.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from components.backbones.family import BackboneFamily
from components.data.batching import collate
from components.data.documents import Example, Problem, Row
from components.data.prepared import TokenizedDocument, TokenizedSplit
from components.data.settings import ColumnsConfig, DataConfig
from components.data.tokenization import encode
from components.data.validation import Check, Loaded, examples_of, id_of, text_of
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

    Outputs = np.ndarray[Any, Any]


class RegressionHeadConfig(TaskHeadConfig, HeadConfig):
    """A head with one output."""

    task: ClassVar[str] = "regression"


@dataclass(frozen=True, slots=True)
class RatedText:
    """One valid document."""

    id: str
    text: str
    value: float
    file: str
    row: int

    @property
    def content(self) -> str:
        return self.text

    @property
    def stratum(self) -> str:
        return ""

    @property
    def target(self) -> float:
        return self.value


class Regression:
    """See Task."""

    name = "regression"
    words = "regression"
    columns: Mapping[str, str] = {"value": "float64"}
    chunked = False
    checks: tuple[Check, ...] = ()
    has_classes = False
    generates = False
    head: type[TaskHeadConfig] = RegressionHeadConfig
    global_text = False
    trains_with_prefix = True
    metrics: Mapping[str, Direction] = {"validation/mse": "min"}
    curves: tuple[str, ...] = ("mse",)
    signature = Signature(inputs={"text": "string"}, outputs={"value": "double"})
    usage = Usage("rate long documents", '{"text": ["a document ..."]}', "documents.jsonl")
    input_suffixes: tuple[str, ...] = TEXT_SUFFIXES
    input_words = "documents (.jsonl, .csv or .parquet)"

    def examples(
        self, rows: Iterable[Row | Problem], columns: ColumnsConfig
    ) -> tuple[list[Example], list[Problem]]:
        def make(row: Row) -> Example | Problem:
            text, value = text_of(row, columns.text), row.values.get(columns.label)
            if isinstance(text, Problem):
                return text
            if isinstance(value, bool) or not isinstance(value, int | float):
                found, fix = f"column '{columns.label}' holds {value!r}", "give a number"
                return Problem("no_number", row.file, row.number, found, fix)
            return RatedText(id_of(row, columns.id), text, float(value), row.file, row.number)

        return examples_of(rows, make, {"text": columns.text, "label": columns.label})

    def fitting(
        self, loaded: Loaded, tokenizer: "PreTrainedTokenizerBase", config: DataConfig
    ) -> Loaded:
        return loaded

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        return ()

    def tokenized(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: "PreTrainedTokenizerBase",
        config: DataConfig,
    ) -> Iterator[list[TokenizedDocument]]:
        texts, remaining = cast("Sequence[RatedText]", examples), iter(examples)
        for chunk in encode([each.text for each in texts], tokenizer, max_tokens=config.max_tokens):
            yield [
                TokenizedDocument(
                    (each := next(remaining)).id,
                    {"value": cast("RatedText", each).value},
                    encoded.input_ids,
                    encoded.full_length,
                )
                for encoded in chunk
            ]

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
    ) -> RegressionHeadConfig:
        return RegressionHeadConfig(pooling=section.pooling, dropout=section.dropout)

    def build_head(self, config: Any, backbone: "nn.Module", dropout: float) -> Any:
        from components.tasks.heads.classification import ClassificationHead

        return ClassificationHead(
            hidden_size=backbone.config.hidden_size,
            num_labels=1,
            pooling=config.pooling,
            dropout=dropout if config.dropout is None else config.dropout,
            init_std=0.02,
        )

    def head_parameters(self, hidden: int, *, num_labels: int, form: HeadForm) -> int:
        return (hidden + 1) * (hidden + 1)

    def incompatibility(self, family: BackboneFamily, pooling: str | None) -> str | None:
        return None

    def ignores_document(self, family: BackboneFamily, pooling: str | None) -> str | None:
        return None

    def batch(
        self, split: TokenizedSplit, indices: Any, *, pad_token_id: int
    ) -> "dict[str, Tensor]":
        return collate(split, indices, pad_token_id=pad_token_id, target="value")

    def loss(
        self, logits: "Tensor", labels: "Tensor", *, reduction: Literal["sum", "mean"]
    ) -> "Tensor":
        from torch.nn import functional

        return functional.mse_loss(logits[:, 0], labels.to(logits.dtype), reduction=reduction)

    def terms(self, split: TokenizedSplit, indices: Any) -> int:
        return len(indices)

    def subset(self, split: TokenizedSplit, count: int, seed: int) -> "np.ndarray[Any, Any]":
        import numpy as np

        chosen = np.random.default_rng(seed).permutation(len(split))[:count]
        return np.sort(chosen)

    def outputs(self, logits: "Tensor", labels: "Tensor") -> "Outputs":
        return logits.float().cpu().numpy()

    def measured(
        self, outputs: "Outputs", split: TokenizedSplit, rows: "np.ndarray[Any, Any]"
    ) -> dict[str, float]:
        return {"mse": float(((outputs[:, 0] - split.column("value")[rows]) ** 2).mean())}

    def concluded(
        self, outputs: "Mapping[str, Outputs]", splits: Mapping[str, TokenizedSplit]
    ) -> Conclusion:
        return Conclusion(
            {
                f"{name}/{metric}": value
                for name in outputs
                for metric, value in self.measured(outputs[name], splits[name], slice(None)).items()
            }
        )

    def evaluated(
        self,
        outputs: "Outputs",
        split: TokenizedSplit,
        *,
        temperature: float,
        data_labels: Sequence[str],
        labels: Sequence[str],
    ) -> Evaluated:
        found = self.measured(outputs, split, slice(None))
        return Evaluated(metrics=found, uncalibrated=found)

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
        return logits.float().cpu().numpy()

    def answer(self, asked: str, row: "Outputs", labels: Sequence[str]) -> dict[str, Any]:
        return {"value": float(row[0])}


REGRESSION = Regression()
