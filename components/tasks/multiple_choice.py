"""Multiple choice: a question with candidates of its own and supporting documents, cut into chunks;
the softmax runs over the candidates (WikiHop, as the paper has it).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from components.backbones.family import BackboneFamily
from components.data import qangaroo
from components.data.batching import collate, stratified_subset
from components.data.documents import Example, Problem, Row
from components.data.prepared import TokenizedDocument, TokenizedSplit
from components.data.settings import ColumnsConfig, DataConfig
from components.data.validation import Check, Loaded
from components.errors import DataError
from components.tasks import probabilities
from components.tasks.outputs import candidate_counts
from components.tasks.question_chunks import chunks_of, first_part
from components.tasks.questions import FIXES, Question, questions_of
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

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from components.tasks.heads.head import Head

    Outputs = np.ndarray[Any, Any]

QUESTIONS_PER_BATCH = 512
TYPICAL_CHUNKS = 2
"""Chunks of a question where data.qangaroo.max_chunks does not bound them: not known before the
data are read, so that a plan is no bound then.
"""


class MultipleChoiceHeadConfig(TaskHeadConfig):
    """A head that scores the candidates of each question (WikiHop); their number may differ from
    question to question. It has no settings.
    """

    task: ClassVar[str] = "multiple_choice"


class MultipleChoice:
    """See Task."""

    name = "multiple_choice"
    words = "multiple choice"
    columns: Mapping[str, str] = {"label_id": "int64"}
    chunked = True
    checks: tuple[Check, ...] = ()
    has_classes = False
    generates = False
    head: type[TaskHeadConfig] = MultipleChoiceHeadConfig
    global_text = True
    trains_with_prefix = False
    """As in the release, where this task trains prefix, special tokens and score alone."""
    metrics: Mapping[str, Direction] = {
        "validation/accuracy": "max",
        **{f"validation/{name}": better for name, better in probabilities.CALIBRATED.items()},
    }
    curves: tuple[str, ...] = ("accuracy", "nll", "ece")
    signature = Signature(
        inputs={
            "query": "string",
            "candidates": "list of string",
            "supports": "list of string",
        },
        outputs={"label": "string", "probabilities": "map of double"},
    )
    usage = Usage(
        purpose="choose among the candidates of a question about long documents",
        frame=(
            '{"query": ["country the harbour"], "candidates": [["Norway", "Chile"]], '
            '"supports": [["The harbour is in Bergen ...", "Bergen is a city in Norway ..."]]}'
        ),
        file="questions.json",
    )
    input_suffixes: tuple[str, ...] = qangaroo.SUFFIXES
    input_words = "questions (.json, .json.gz: query, candidates, supports)"

    def examples(
        self, rows: Iterable[Row | Problem], columns: ColumnsConfig
    ) -> tuple[list[Example], list[Problem]]:
        questions, problems = questions_of(rows)
        return cast("list[Example]", questions), problems

    def fitting(
        self, loaded: Loaded, tokenizer: "PreTrainedTokenizerBase", config: DataConfig
    ) -> Loaded:
        """Every chunk starts with question and candidates, so these must leave room for at least
        one token more.
        """
        fitting: Loaded = Loaded({}, list(loaded.problems))
        for split, questions in loaded.splits.items():
            fitting.splits[split] = []
            for question in cast("list[Question]", questions):
                taken = len(first_part(tokenizer, question.query, question.candidates))
                if taken < config.max_tokens:
                    fitting.splits[split].append(question)
                    continue
                found = (
                    f"question and candidates take {taken} of data.max_tokens {config.max_tokens}, "
                    "which leaves no room for the supports"
                )
                fitting.problems.append(
                    Problem("no_room", question.file, question.row, found, FIXES["no_room"])
                )
        return fitting

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

        questions = cast("Sequence[Question]", examples)
        for start in range(0, len(questions), QUESTIONS_PER_BATCH):
            rows = []
            for question in questions[start : start + QUESTIONS_PER_BATCH]:
                chunks = chunks_of(tokenizer, question, max_tokens=config.max_tokens)
                kept = chunks[: _max_chunks(config)]
                rows.append(
                    TokenizedDocument(
                        question.id,
                        {"label_id": question.answer},
                        np.concatenate(kept),
                        full_length=sum(len(chunk) for chunk in chunks),
                        chunk_lengths=tuple(len(chunk) for chunk in kept),
                    )
                )
            yield rows

    def cutting(self, config: DataConfig) -> Mapping[str, object]:
        return {"max_chunks": _max_chunks(config)}

    def uncut(self, cutting: Mapping[str, Any]) -> dict[str, Any]:
        limit = cutting.get("max_chunks")
        return {} if limit is None else {"qangaroo": {"max_chunks": limit}}

    def sequences_per_document(self, config: DataConfig) -> int:
        return _max_chunks(config) or TYPICAL_CHUNKS

    def head_config(
        self,
        section: HeadConfig,
        labels: tuple[str, ...],
        *,
        data: DataConfig,
        tokenizer: "PreTrainedTokenizerBase",
    ) -> MultipleChoiceHeadConfig:
        return MultipleChoiceHeadConfig()

    def build_head(self, config: Any, backbone: "nn.Module", dropout: float) -> "Head":
        from components.tasks.heads.multiple_choice import build

        return build(config, backbone, dropout)

    def head_parameters(self, hidden: int, *, num_labels: int, form: HeadForm) -> int:
        """A score and four special tokens."""
        return 5 * hidden

    def incompatibility(self, family: BackboneFamily, pooling: str | None) -> str | None:
        if family.rows_see_all_text:
            return None
        return (
            "data.qangaroo (multiple choice) asks for scores at candidates that stand before the "
            f"documents, and in a {family.name} they cannot see them; use backbone.family "
            "longformer or encoder"
        )

    def ignores_document(self, family: BackboneFamily, pooling: str | None) -> str | None:
        return None

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
        """Without a confusion: one of candidates would mean nothing."""
        from components.evaluation import multiple_choice_metrics

        counts = candidate_counts(outputs)
        return probabilities.evaluated(
            lambda found: multiple_choice_metrics(found, split.label_ids, num_candidates=counts),
            outputs,
            split.label_ids,
            split,
            temperature=temperature,
            confusion=(),
        )

    def inputs(
        self, path: Path, *, text_column: str, id_column: str
    ) -> Iterator[tuple[str, Question]]:
        """The answer may be missing."""
        for question in _without_problems(qangaroo.rows(str(path), "input")):
            yield question.id, question

    def asked(self, records: Sequence[Mapping[str, Any]]) -> list[Question]:
        keys = {"query": str, "candidates": list, "supports": list}
        return _without_problems(
            Row("model_input", number, {key: made(record[key]) for key, made in keys.items()})
            for number, record in enumerate(records, start=1)
        )

    def encoded(
        self,
        asked: Sequence[Question],
        tokenizer: "PreTrainedTokenizerBase",
        *,
        max_tokens: int,
        cutting: Mapping[str, Any],
    ) -> list[Sequences]:
        limit = cutting.get("max_chunks")
        return [
            [
                chunk.tolist()
                for chunk in chunks_of(tokenizer, each, max_tokens=max_tokens, max_chunks=limit)
            ]
            for each in asked
        ]

    def answered(self, logits: "Tensor", temperature: float) -> "Outputs":
        return probabilities.softmax_of(logits, temperature)

    def answer(self, asked: Question, row: "Outputs", labels: Sequence[str]) -> dict[str, Any]:
        own = row[: len(asked.candidates)]
        return {
            "label": asked.candidates[int(own.argmax())],
            "probabilities": dict(
                zip(asked.candidates, (float(value) for value in own), strict=True)
            ),
        }


def _max_chunks(config: DataConfig) -> int | None:
    return None if config.qangaroo is None else config.qangaroo.max_chunks


def _without_problems(rows: Iterable[Row | Problem]) -> list[Question]:
    questions, problems = questions_of(rows, answered=False)
    if problems:
        raise DataError(str(problems[0]))
    return questions


def _measured(logits_NC: "Outputs", label_ids_N: "Outputs") -> dict[str, float]:
    from components.evaluation import multiple_choice_metrics, softmax

    return multiple_choice_metrics(
        softmax(logits_NC), label_ids_N, num_candidates=candidate_counts(logits_NC)
    )


MULTIPLE_CHOICE = MultipleChoice()
