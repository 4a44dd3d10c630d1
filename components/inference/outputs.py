"""One pass over whatever is asked: the batching that every answer goes through, so that `predict`,
the registered pyfunc and Python users get equal answers for equal batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from components.adapters.model import AdaptedModel
from components.data.batching import padded
from components.inference.shared_backbone import turn
from components.tasks.task import Sequences, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def sequences_of(
    task: Task,
    asked: Sequence[Any],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_tokens: int,
    cutting: Mapping[str, Any],
) -> list[Sequences]:
    """Token ids of each that is asked. The tokenizer is told where to cut before it cuts, so that
    one thread at a time may use it.
    """
    with turn(tokenizer):
        return task.encoded(asked, tokenizer, max_tokens=max_tokens, cutting=cutting)


def batches_of_logits(
    model: AdaptedModel,
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Sequence[Sequences],
    *,
    batch_size: int,
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """(indices, their logits) of at most `batch_size` documents at a time, from most to fewest
    tokens, so that little is padded. The model is put into evaluation mode. Several threads may
    ask: they take turns, batch by batch.
    """
    with turn(model):
        model.eval()
    tokens = [sum(len(sequence) for sequence in sequences) for sequences in encoded]
    order = sorted(range(len(encoded)), key=lambda index: (-tokens[index], index))
    device = next(model.head.parameters()).device
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        placed = [(place, ids) for place, member in enumerate(members) for ids in encoded[member]]
        ids_BT, mask_BT = padded([ids for _, ids in placed], pad_token_id=padding_id(tokenizer))
        which = (
            {"example_index": torch.tensor([place for place, _ in placed], device=device)}
            if model.task.chunked
            else {}
        )
        with turn(model), torch.inference_mode():
            logits = model(
                torch.from_numpy(ids_BT).to(device), torch.from_numpy(mask_BT).to(device), **which
            ).logits
        yield members, logits


def padding_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """What fills the rows of shorter texts: any id serves, because the attention mask covers it;
    Longformer counts its positions by its own, which its tokenizers have.
    """
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in found if token is not None)
