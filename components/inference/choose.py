"""Candidate probabilities for multiple-choice questions, in Python; `classify` is its like for
texts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.adapters.model import AdaptedModel
from components.inference.outputs import batches_of_logits, sequences_of
from components.tasks.multiple_choice import MultipleChoiceHeadConfig
from components.tasks.questions import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Probabilities = list["np.ndarray[Any, np.dtype[np.float32]]"]


def choose(
    model: AdaptedModel,
    tokenizer: "PreTrainedTokenizerBase",
    questions: Sequence[Question],
    *,
    max_tokens: int,
    max_chunks: int | None = None,
    batch_size: int = 8,
    temperature: float = 1.0,
) -> Probabilities:
    """For each question the probabilities (C,) float32 of its candidates, in their order.

    `max_tokens`: of a chunk, special tokens included; `max_chunks`: of a question, None for all. At
    most `batch_size` questions run at a time, from most to fewest tokens. `temperature` divides the
    logits (calibration). The model is put into evaluation mode. Raises ConfigError where question
    and candidates leave no room for supports.
    """
    if not isinstance(model.head_config, MultipleChoiceHeadConfig):
        raise ValueError(f"this adapter was trained for {model.task.words}: it chooses nothing")
    cutting = {"max_chunks": max_chunks}
    encoded = sequences_of(model.task, questions, tokenizer, max_tokens=max_tokens, cutting=cutting)
    found: Probabilities = [np.zeros(0, dtype=np.float32)] * len(questions)
    for members, (logits,) in batches_of_logits([model], tokenizer, encoded, batch_size=batch_size):
        for member, row in zip(members, model.task.answered(logits, temperature), strict=True):
            found[member] = row[: len(questions[member].candidates)]
    return found
