"""Language modelling: a frozen decoder with an adapter learns to write completions. The loss is
over their tokens alone, each of which weighs the same; an answer is generated.

The fact a newcomer gets wrong: what is kept of a document is the sum of -log p of its tokens and
how many they are, no logits; so there is no calibration and no gate that compares answers.
Shapes: N documents, B documents of a batch.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from components.backbones.family import BackboneFamily
from components.data.batching import collate
from components.data.documents import Example, Problem, Row
from components.data.prepared import TokenizedDocument, TokenizedSplit
from components.data.settings import ColumnsConfig, DataConfig
from components.data.template import leading_ids
from components.data.tokenization import check_fast
from components.data.validation import Check, Loaded
from components.errors import ArtifactError, ConfigError
from components.tasks.completions import (
    Completion,
    check_form,
    completions,
    prompt_ids,
    tokens_of,
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
from components.tasks.text_inputs import TEXT_SUFFIXES, text_inputs

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from components.tasks.heads.head import Head

    Outputs = np.ndarray[Any, Any]

DOCUMENTS_AT_ONCE = 256
LOSS, TOKENS = 0, 1
"""Columns of the outputs."""


class LanguageModellingHeadConfig(TaskHeadConfig):
    """The language-model head of the backbone, as it is."""

    task: ClassVar[str] = "language_modelling"


class LanguageModelling:
    """See Task."""

    name = "language_modelling"
    words = "language modelling"
    columns: Mapping[str, str] = {"prompt_tokens": "int64"}
    chunked = False
    checks: tuple[Check, ...] = ()
    has_classes = False
    generates = True
    head: type[TaskHeadConfig] = LanguageModellingHeadConfig
    global_text = False
    trains_with_prefix = False
    metrics: Mapping[str, Direction] = {"validation/nll": "min", "validation/perplexity": "min"}
    curves: tuple[str, ...] = ("nll", "perplexity")
    signature = Signature(inputs={"text": "string"}, outputs={"completion": "string"})
    usage = Usage(
        purpose="complete long prompts",
        frame='{"text": ["a long prompt ..."]}',
        file="prompts.jsonl",
    )
    input_suffixes: tuple[str, ...] = TEXT_SUFFIXES
    input_words = "prompts (.jsonl, .csv or .parquet)"

    def examples(
        self, rows: Iterable[Row | Problem], columns: ColumnsConfig
    ) -> tuple[list[Example], list[Problem]]:
        return completions(rows, columns)

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
        import numpy as np

        check_fast(tokenizer)
        least = max(1, len(leading_ids(tokenizer))) + 1
        if config.max_tokens < least:
            raise ConfigError(
                f"data.max_tokens: {config.max_tokens} leaves no token to learn; give at least "
                f"{least}"
            )
        documents = cast("Sequence[Completion]", examples)
        check_form(documents, chat=config.chat)
        for start in range(0, len(documents), DOCUMENTS_AT_ONCE):
            chunk = documents[start : start + DOCUMENTS_AT_ONCE]
            found = [tokens_of(each, tokenizer, max_tokens=config.max_tokens) for each in chunk]
            yield [
                TokenizedDocument(
                    document.id,
                    {"prompt_tokens": tokens.prompt_tokens},
                    np.asarray(tokens.ids, dtype=np.int32),
                    tokens.full_length,
                )
                for document, tokens in zip(chunk, found, strict=True)
            ]

    def cutting(self, config: DataConfig) -> Mapping[str, object]:
        return {"max_new_tokens": config.max_new_tokens, "chat": config.chat}

    def uncut(self, cutting: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: cutting[name] for name in ("max_new_tokens", "chat") if name in cutting}
        return {"task": self.name, **own}

    def sequences_per_document(self, config: DataConfig) -> int:
        return 1

    def head_config(
        self,
        section: HeadConfig,
        labels: tuple[str, ...],
        *,
        data: DataConfig,
        tokenizer: "PreTrainedTokenizerBase",
    ) -> LanguageModellingHeadConfig:
        return LanguageModellingHeadConfig()

    def build_head(self, config: Any, backbone: "nn.Module", dropout: float) -> "Head":
        from components.tasks.heads.language_modelling import build

        return build(backbone)

    def head_parameters(self, hidden: int, *, num_labels: int, form: HeadForm) -> int:
        return 0

    def incompatibility(self, family: BackboneFamily, pooling: str | None) -> str | None:
        if not family.rows_see_all_text:
            return None
        return (
            "data.task language_modelling needs a causal decoder, in which no row sees what comes "
            f"after it; a {family.name} is none: set backbone.family to decoder"
        )

    def ignores_document(self, family: BackboneFamily, pooling: str | None) -> str | None:
        return None

    def batch(
        self, split: TokenizedSplit, indices: Any, *, pad_token_id: int
    ) -> "dict[str, Tensor]":
        batch = collate(split, indices, pad_token_id=pad_token_id, target="prompt_tokens")
        return batch | {"prompt_tokens": batch["labels"]}

    def loss(
        self, logits: "Tensor", labels: "Tensor", *, reduction: Literal["sum", "mean"]
    ) -> "Tensor":
        total = logits[:, LOSS].sum()
        return total if reduction == "sum" else total / logits[:, TOKENS].sum()

    def terms(self, split: TokenizedSplit, indices: Any) -> int:
        learnt = split.lengths[indices] - split.column("prompt_tokens")[indices]
        return int(learnt.sum())

    def subset(self, split: TokenizedSplit, count: int, seed: int) -> "np.ndarray[Any, Any]":
        import numpy as np

        chosen = np.random.default_rng(seed).permutation(len(split))[:count]
        return np.sort(chosen)

    def outputs(self, logits: "Tensor", labels: "Tensor") -> "Outputs":
        array: Outputs = logits.float().cpu().numpy()
        return array

    def measured(
        self, outputs: "Outputs", split: TokenizedSplit, rows: "np.ndarray[Any, Any]"
    ) -> dict[str, float]:
        return per_token(outputs)

    def concluded(
        self, outputs: "Mapping[str, Outputs]", splits: "Mapping[str, TokenizedSplit]"
    ) -> Conclusion:
        return Conclusion(
            {
                f"{split}/{name}": value
                for split, each in outputs.items()
                for name, value in per_token(each).items()
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
        found = per_token(outputs)
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
        room, chat = max_tokens - new_tokens(cutting, max_tokens), bool(cutting.get("chat"))
        return [[prompt_ids(text, tokenizer, chat=chat, max_tokens=room)] for text in asked]

    def answered(self, logits: "Tensor", temperature: float) -> "Outputs":
        return self.outputs(logits, logits)

    def answer(self, asked: str, row: Any, labels: Sequence[str]) -> dict[str, Any]:
        """`row`: the text that was generated."""
        return {"completion": row}


def per_token(outputs_N2: "Outputs") -> dict[str, float]:
    """nll (nats per token), perplexity, and what they are of."""
    tokens = float(outputs_N2[:, TOKENS].sum(dtype="float64"))
    nll = float(outputs_N2[:, LOSS].sum(dtype="float64")) / tokens
    perplexity = math.exp(min(nll, 700.0))
    return {
        "nll": nll,
        "perplexity": perplexity,
        "num_tokens": tokens,
        "num_documents": float(len(outputs_N2)),
    }


def new_tokens(cutting: Mapping[str, Any], max_tokens: int) -> int:
    """The most tokens of an answer, which prompts leave room for. Raises ArtifactError where an
    adapter does not say it.
    """
    found = cutting.get("max_new_tokens")
    if type(found) is not int or not 0 < found < max_tokens:
        raise ArtifactError(
            f"adapter_config.json: training.max_new_tokens is {found!r}, expected a positive "
            f"integer below training.max_tokens ({max_tokens})."
        )
    return found


LANGUAGE_MODELLING = LanguageModelling()
