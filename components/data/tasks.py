"""What preparation does differently from task to task: one entry of `TASKS` each. The heads that go
with them are in components/adapters (`HEADS`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from components.config.schema import DataConfig, Task
from components.data.documents import Document, Problem, Question
from components.data.multiple_choice import chunks_of, first_part
from components.data.prepared import TokenizedDocument
from components.data.tokenization import encode
from components.data.validation import Loaded, class_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QUESTIONS_PER_BATCH = 512


@dataclass(frozen=True)
class TaskData:
    """How the documents of a task are checked against the tokenizer, named and tokenised."""

    fitting: Callable[[Loaded, "PreTrainedTokenizerBase", DataConfig], Loaded]
    """Moves the documents that cannot be tokenised under these settings to the problems."""
    labels: Callable[[Sequence[Document]], tuple[str, ...]]
    """Names of the classes, from the training documents; empty where every document has choices of
    its own.
    """
    tokenized: Callable[
        [Sequence[Document], Sequence[str], "PreTrainedTokenizerBase", DataConfig],
        Iterator[list[TokenizedDocument]],
    ]
    """(documents, labels, tokenizer, settings) -> rows of the cache in order, in lists of a
    bearable size.
    """


def _classified(
    documents: Sequence[Document],
    labels: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    config: DataConfig,
) -> Iterator[list[TokenizedDocument]]:
    label_ids, done = {label: label_id for label_id, label in enumerate(labels)}, 0
    for chunk in encode(
        [document.text for document in documents], tokenizer, max_tokens=config.max_tokens
    ):
        members = documents[done : done + len(chunk)]
        done += len(chunk)
        yield [
            TokenizedDocument(
                document.id, label_ids[document.label], encoded.input_ids, encoded.full_length
            )
            for document, encoded in zip(members, chunk, strict=True)
        ]


def _questions(
    documents: Sequence[Document],
    _: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    config: DataConfig,
) -> Iterator[list[TokenizedDocument]]:
    assert config.qangaroo is not None
    questions = cast("Sequence[Question]", documents)
    for start in range(0, len(questions), QUESTIONS_PER_BATCH):
        rows = []
        for question in questions[start : start + QUESTIONS_PER_BATCH]:
            chunks = chunks_of(tokenizer, question, max_tokens=config.max_tokens)
            kept = chunks[: config.qangaroo.max_chunks]
            rows.append(
                TokenizedDocument(
                    question.id,
                    question.answer,
                    np.concatenate(kept),
                    full_length=sum(len(chunk) for chunk in chunks),
                    chunk_lengths=tuple(len(chunk) for chunk in kept),
                )
            )
        yield rows


def _questions_with_room(
    loaded: Loaded, tokenizer: "PreTrainedTokenizerBase", config: DataConfig
) -> Loaded:
    """Every chunk starts with question and candidates, so these must leave room for at least one
    token more.
    """
    fitting: Loaded = Loaded({}, list(loaded.problems))
    for split, documents in loaded.splits.items():
        fitting.splits[split] = []
        for document in cast("list[Question]", documents):
            taken = len(first_part(tokenizer, document.query, document.candidates))
            if taken < config.max_tokens:
                fitting.splits[split].append(document)
            else:
                found = (
                    f"question and candidates take {taken} of data.max_tokens {config.max_tokens}, "
                    "which leaves no room for the supports"
                )
                fitting.problems.append(Problem("no_room", document.file, document.row, found))
    return fitting


TASKS: dict[Task, TaskData] = {
    "classification": TaskData(
        fitting=lambda loaded, *_: loaded, labels=class_names, tokenized=_classified
    ),
    "multiple_choice": TaskData(
        fitting=_questions_with_room, labels=lambda _: (), tokenized=_questions
    ),
}
