"""Class probabilities for texts: the one path that `predict`, the registered pyfunc and Python
users share.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from components.adapters.model import AdaptedModel
from components.config.schema import ClassificationHeadConfig
from components.data.batching import padded

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def classify(
    model: AdaptedModel,
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    *,
    max_tokens: int,
    batch_size: int = 8,
    temperature: float = 1.0,
) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Probabilities (N, C), float32, in the order of `texts`.

    Documents are truncated to `max_tokens` tokens (special tokens included) and run from longest to
    shortest, `batch_size` at a time, so that little is padded. `temperature` divides the logits
    (calibration). The model is put into evaluation mode.
    """
    head = model.head_config
    if not isinstance(head, ClassificationHeadConfig):
        raise ValueError("this adapter answers multiple-choice questions: call choose")
    model.eval()
    if not texts:
        return np.zeros((0, head.num_labels), dtype=np.float32)
    encoded = tokenizer(
        list(texts), truncation=True, max_length=max_tokens, return_attention_mask=False
    )["input_ids"]
    order = sorted(range(len(texts)), key=lambda index: (-len(encoded[index]), index))
    probabilities = np.empty((len(texts), head.num_labels), dtype=np.float32)
    device = next(model.head.parameters()).device
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids_BT, mask_BT = padded([encoded[row] for row in rows], pad_token_id=padding_id(tokenizer))
        with torch.inference_mode():
            logits_BC = model(
                torch.from_numpy(ids_BT).to(device), torch.from_numpy(mask_BT).to(device)
            ).logits
        probabilities[rows] = torch.softmax(logits_BC / temperature, dim=-1).cpu().numpy()
    return probabilities


def padding_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """What fills the rows of shorter texts: any id serves, because the attention mask covers it;
    Longformer counts its positions by its own, which its tokenizers have.
    """
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in found if token is not None)
