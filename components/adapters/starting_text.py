"""A prefix that starts as the input embeddings of a text (adapter.init: text).

The fact a newcomer gets wrong: the text is needed once, when a fresh adapter is made. What is
resumed or loaded has values of its own and asks neither tokenizer nor embedding.
Shapes: P prefix, D hidden.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from components.adapters.methods import MethodConfig
from components.adapters.modules.adapter_method import StartsFromRows
from components.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from components.adapters.model import AdaptedModel


def starting_ids(
    adapter: MethodConfig, tokenizer: "PreTrainedTokenizerBase | None"
) -> list[int] | None:
    """Token ids (P) whose embeddings a fresh adapter starts from; None where it starts otherwise.

    The first P tokens of the text, from its start again where it has fewer; none of the tokenizer's
    special tokens. Raises ConfigError without a tokenizer, and where it makes no token of the text.
    """
    text = adapter.starting_text
    if text is None:
        return None
    if tokenizer is None:
        raise ConfigError(
            "adapter.init text needs the backbone's tokenizer; give it (adapt(..., "
            "tokenizer=tokenizer)), or set adapter.init to normal."
        )
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise ConfigError(
            "adapter.init_text holds no token of this backbone's tokenizer; write words into it, "
            "or set adapter.init to normal."
        )
    return [ids[place % len(ids)] for place in range(adapter.prefix_length)]


def start_from_ids(model: "AdaptedModel", ids: Sequence[int]) -> None:
    """Give a fresh adapter the input embeddings of these tokens, as the backbone's module for them
    answers now: every rank of ZeRO-3 calls it together.
    """
    adapter = model.adapter
    backbone: Any = model.backbone
    assert isinstance(adapter, StartsFromRows), model.adapter_config.method
    device = next(adapter.parameters()).device
    with torch.no_grad():
        rows_PD = backbone.get_input_embeddings()(torch.tensor(list(ids), device=device))
        adapter.start_from(rows_PD.float())
