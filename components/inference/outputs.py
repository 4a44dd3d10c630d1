"""One pass over whatever is asked: the batching that every answer goes through, so that `predict`,
the registered pyfunc and Python users get equal answers for equal batches.

Several adapters of one backbone may be asked at once. The fact a newcomer gets wrong: where an
adapter's rows stand apart from the text (placement suffix, one_way), a text's states are the same
for all such adapters, and a batch is read once for them; any other adapter's text sees what was
trained, and takes a pass of its own.
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
    models: Sequence[AdaptedModel],
    tokenizer: "PreTrainedTokenizerBase",
    encoded: Sequence[Sequences],
    *,
    batch_size: int,
) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
    """(indices, their logits of each model) of at most `batch_size` documents at a time, from most
    to fewest tokens, so that little is padded. `models`: of one task, and on one backbone's weights
    (components/inference/several.py sees to it); they are put into evaluation mode. Several threads
    may ask: they take turns, batch by batch.
    """
    for model in models:
        with turn(model):
            model.eval()
    tokens = [sum(len(sequence) for sequence in sequences) for sequences in encoded]
    order = sorted(range(len(encoded)), key=lambda index: (-tokens[index], index))
    device, chunked = models[0].device, models[0].task.chunked
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        placed = [(place, ids) for place, member in enumerate(members) for ids in encoded[member]]
        ids_BT, mask_BT = padded([ids for _, ids in placed], pad_token_id=padding_id(tokenizer))
        which = (
            {"example_index": torch.tensor([place for place, _ in placed], device=device)}
            if chunked
            else {}
        )
        ids, mask = torch.from_numpy(ids_BT).to(device), torch.from_numpy(mask_BT).to(device)
        yield members, _logits(models, ids, mask, **which)


def _logits(
    models: Sequence[AdaptedModel], ids_BT: torch.Tensor, mask_BT: torch.Tensor, **which: Any
) -> list[torch.Tensor]:
    """Logits of each model, from as few passes over the text as they allow."""
    read: dict[int, Any] = {}
    found = []
    for model in models:
        with turn(model), torch.inference_mode():
            shared = reading(model)
            if shared is not None and shared not in read:
                read[shared] = model.read_text(ids_BT, mask_BT)
            states = None if shared is None else read[shared]
            found.append(model(ids_BT, mask_BT, states=states, **which).logits)
    return found


def reading(model: AdaptedModel) -> int | None:
    """Models with an equal one have the same states of a text on one backbone; None: the text sees
    what was trained, so that nobody else has them.
    """
    rows = model.adapter.rows
    if not rows.suffix:
        return None
    config: Any = model.backbone.config
    return rows.suffix if model.family.states_depend_on_rows(config.to_dict()) else 0


def padding_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """What fills the rows of shorter texts: any id serves, because the attention mask covers it;
    Longformer counts its positions by its own, which its tokenizers have.
    """
    found = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(int(token) for token in found if token is not None)
