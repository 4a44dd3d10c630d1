"""A causal decoder's trained prefix as keys and values that stay the same for every text: what PEFT
calls PREFIX_TUNING.

Prefix rows come first and cannot see the text, so their states are a constant of the trained
adapter (components/adapters/README.md). The fact a newcomer gets wrong: a static prefix replaces
the rows exactly only where the text also stands at the positions that a cache of P tokens gives it,
P, P + 1, ..., and where every layer shows the prefix to every row of the text. What is not so is
refused by name, not approximated.
Shapes: B batch, P prefix, D hidden, L layers, H key/value heads, E head size, K = H x E.
"""

from typing import Any

import torch
from torch import Tensor

from components.adapters.evaluating import evaluating
from components.adapters.model import AdaptedModel
from components.adapters.modules.adapter_method import Contribution
from components.backbones.numbers import numbers_of
from components.errors import ConfigError

KeysAndValues = list[tuple[Tensor, Tensor]]
"""Of each layer in order keys (1, H, P, E), normed and rotated as a cache holds them, and values
(1, H, P, E).
"""


def folded(model: AdaptedModel) -> KeysAndValues:
    """Keys and values of the prefix in every layer, without dropout, in the backbone's numbers and
    on its device.

    A stock transformers model with these in its cache, and the text behind them, computes what the
    adapted model computes of the text. Raises ConfigError for an adapter that is not a static
    prefix, with the reason.
    """
    with evaluating(model), torch.no_grad():
        contribution = model.contribution(batch_size=1)
        if reason := _fault(model, contribution):
            raise ConfigError(f"{reason}.")
        if contribution.key_value_LBPK is not None:
            return _as_cached(model, *contribution.key_value_LBPK)
        return _computed(model, contribution)


def _fault(model: AdaptedModel, contribution: Contribution) -> str | None:
    """Why the adapter is no static prefix, as a sentence that starts with the setting."""
    name, rows = f"adapter.method {model.adapter_config.method}", model.adapter.rows
    fix = "only a prefix that stands alone before a causal decoder's text can be folded"
    config: Any = model.backbone.config
    if reason := model.family.folding_fault(config.to_dict()):
        return reason
    if rows.suffix:
        return f"adapter.placement suffix puts its rows where they see the text; {fix}"
    if model.trained_in_backbone:
        return f"{name} trains weights of the backbone ({model.trained_in_backbone[0]}); {fix}"
    if not rows.prefix and not rows.key_value:
        return f"{name} puts no rows before the text; {fix}"
    before = rows.prefix + rows.key_value
    if rows.offset != before:
        return (
            f"{name} puts {before} rows before a text that starts at position {rows.offset}, and a "
            f"static prefix of {before} would move it to {before}; {fix}"
        )
    if contribution.changes_attention or contribution.changes_text or rows.decomposed:
        return f"{name} changes more than the rows before the text; {fix}"
    placed = contribution.key_value_LBPK is not None
    if placed is not bool(rows.key_value) or placed is not (contribution.inside_layer is not None):
        return f"{name} changes more inside a layer than keys and values; {fix}"
    return None


def _as_cached(model: AdaptedModel, key_LBPK: Tensor, value_LBPK: Tensor) -> KeysAndValues:
    """Trained keys and values, which enter attention as they are."""
    size = model.family.attention_sizes(model.backbone).head_size
    like = numbers_of(model.backbone)

    def by_head(states_LBPK: Tensor) -> Tensor:
        states_LBHPE = states_LBPK.to(like).unflatten(-1, (-1, size)).transpose(2, 3)
        return states_LBHPE.contiguous()

    return list(zip(by_head(key_LBPK), by_head(value_LBPK), strict=True))


def _computed(model: AdaptedModel, contribution: Contribution) -> KeysAndValues:
    """What the backbone's own layers keep in a cache of the prefix rows, run without any text."""
    from transformers import DynamicCache

    backbone: Any = model.backbone
    no_text_B0 = torch.zeros(1, 0, dtype=torch.long, device=numbers_of(backbone).device)
    inputs = model.family.prefixed_inputs(
        backbone, no_text_B0, no_text_B0, model.adapter.rows, prompt_BPD=contribution.prompt_BPD
    )
    cache = DynamicCache()
    with model.contributed(contribution):
        backbone(**inputs | {"past_key_values": cache, "use_cache": True})
    return [(layer.keys, layer.values) for layer in cache.layers]
