"""Candidate probabilities for questions: the one path that `predict`, the registered pyfunc and
Python users share. `classify` is its like for texts.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.adapters.model import AdaptedModel
from components.data.batching import padded
from components.data.documents import Question
from components.data.multiple_choice import chunks_of
from components.inference.classify import padding_id

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
    if model.head_config.task != "multiple_choice":
        raise ValueError("this adapter classifies texts: call classify")
    model.eval()
    chunked = [
        chunks_of(tokenizer, question, max_tokens=max_tokens, max_chunks=max_chunks)
        for question in questions
    ]
    order = sorted(
        range(len(questions)),
        key=lambda index: (-sum(len(chunk) for chunk in chunked[index]), index),
    )
    found: Probabilities = [np.zeros(0, dtype=np.float32)] * len(questions)
    device = next(model.head.parameters()).device
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        chunks = [
            (place, chunk) for place, member in enumerate(members) for chunk in chunked[member]
        ]
        ids, mask = padded([chunk for _, chunk in chunks], pad_token_id=padding_id(tokenizer))
        index = torch.tensor([place for place, _ in chunks], device=device)
        with torch.inference_mode():
            logits_BC = model(
                torch.from_numpy(ids).to(device),
                torch.from_numpy(mask).to(device),
                example_index=index,
            ).logits
        probabilities_BC = torch.softmax(logits_BC / temperature, dim=-1).cpu().numpy()
        for member, row in zip(members, probabilities_BC, strict=True):
            found[member] = row[: len(questions[member].candidates)]
    return found
