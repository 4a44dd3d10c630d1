"""Class probabilities for texts, in Python."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from components.adapters.model import AdaptedModel
from components.inference.outputs import batches_of_logits, sequences_of
from components.tasks.classification import ClassificationHeadConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def classify(
    model: AdaptedModel,
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    *,
    max_tokens: int,
    cutting: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    temperature: float = 1.0,
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Probabilities (N, C), float32, in the order of `texts`.

    Documents are truncated to `max_tokens` tokens (special tokens included) and run from longest to
    shortest, `batch_size` at a time. `cutting`: how they were cut in training beside that
    (Task.cutting); of label words {"template": ...}, the prompt that they stand in. `temperature`
    divides the logits (calibration). The model is put into evaluation mode.
    """
    head = model.head_config
    if not isinstance(head, ClassificationHeadConfig):
        raise ValueError(f"this adapter was trained for {model.task.words}: it classifies no texts")
    encoded = sequences_of(
        model.task, texts, tokenizer, max_tokens=max_tokens, cutting=cutting or {}
    )
    probabilities = np.zeros((len(texts), head.num_labels), dtype=np.float32)
    for rows, (logits,) in batches_of_logits([model], tokenizer, encoded, batch_size=batch_size):
        probabilities[rows] = model.task.answered(logits, temperature)
    return probabilities
