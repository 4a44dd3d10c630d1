"""Longformer's self-attention, exact and fast, put into a stock LongformerModel by replacing methods of its instances: no forked modelling file, undone by `uninstall_fast_attention`.

On a CPU the local rows go block by block through components/backbones/banded_attention.py; on a GPU through a compiled FlexAttention with a block mask. Outputs and gradients equal the
stock implementation's at every real row. A padding row of the last layer holds something else than in the stock model and never reaches a real row.
The model no longer pads documents to a multiple of the window.

Every projection is called as the module that it is: ZeRO-3 gathers a module's weights only around its own call.
Shapes: B batch, S rows, D hidden = H heads x E, G global rows (largest count in the batch), N global rows of all examples.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from components.backbones.attention_plan import AttentionPlan, plan_attention
from components.backbones.banded_attention import banded_attention, softmax_dtype

BLOCK_SIZE = 128
"""Query rows computed together: 64 to 256 differ by a few percent (pipelines/benchmark/README.md)."""


def fast_attention_available(backbone: nn.Module) -> bool:
    """Whether `install_fast_attention` can speed this model up: a Longformer."""
    return bool(_attention_modules(backbone))


def install_fast_attention(backbone: nn.Module) -> None:
    """Make every self-attention of a stock LongformerModel fast, in place; a second call changes nothing. Attention weights cannot be returned then (output_attentions)."""
    plans = _Plans()
    for module in _attention_modules(backbone):
        module.forward = _fast_forward(module, plans)
    if hasattr(backbone, "_pad_to_window_size"):
        backbone._pad_to_window_size = _no_padding


def uninstall_fast_attention(backbone: nn.Module) -> None:
    """Give the model its stock methods back."""
    for module in _attention_modules(backbone):
        module.__dict__.pop("forward", None)
    backbone.__dict__.pop("_pad_to_window_size", None)


def _attention_modules(backbone: nn.Module) -> list[Any]:
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    return [module for module in backbone.modules() if isinstance(module, LongformerSelfAttention)]


def _no_padding(
    *, input_ids: Any, attention_mask: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any, pad_token_id: int
) -> tuple[Any, ...]:
    """Stands for LongformerModel._pad_to_window_size: no row is added."""
    return 0, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds


class _Plans:
    """Plans of the forward passes that are still alive, by the mask tensor that all layers of one pass share (also when a layer is recomputed)."""

    def __init__(self) -> None:
        self._by_mask: Any = WeakIdKeyDictionary()

    def get(self, is_masked_BS: Tensor, is_global_BS: Tensor, *, one_sided_window: int, dtype: torch.dtype) -> AttentionPlan:
        plans: dict[tuple[int, torch.dtype], AttentionPlan] = self._by_mask.setdefault(is_masked_BS, {})
        key = (one_sided_window, dtype)
        if key not in plans:
            plans[key] = plan_attention(is_masked_BS, is_global_BS, one_sided_window=one_sided_window, block_size=BLOCK_SIZE, dtype=dtype)
        return plans[key]


def _fast_forward(module: Any, plans: _Plans) -> Callable[..., tuple[Tensor]]:
    def forward(
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        is_index_masked: Tensor | None = None,
        is_index_global_attn: Tensor | None = None,
        is_global_attn: bool | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor]:
        if output_attentions:
            raise ValueError(
                "The fast attention does not return attention weights: load the backbone with backbone.attention=stock, or call uninstall_fast_attention(backbone)."
            )
        assert is_index_masked is not None and is_index_global_attn is not None, "LongformerEncoder hands both masks to every layer"
        query_BSD, key_BSD, value_BSD = module.query(hidden_states), module.key(hidden_states), module.value(hidden_states)
        plan = plans.get(
            is_index_masked, is_index_global_attn, one_sided_window=module.one_sided_attn_window_size, dtype=softmax_dtype(query_BSD.dtype)
        )
        dropout = module.dropout if module.training else 0.0
        global_ND = _global_rows(module, hidden_states, plan, dropout=dropout).to(query_BSD.dtype)
        return (banded_attention(query_BSD, key_BSD, value_BSD, global_ND, plan=plan, num_heads=module.num_heads, dropout=dropout),)

    return forward


def _global_rows(module: Any, hidden_BSD: Tensor, plan: AttentionPlan, *, dropout: float) -> Tensor:
    """Attention output (N, D) of the global rows: their own projections, every real row as key."""
    batch, rows, width = hidden_BSD.shape
    if plan.global_rows_BG.shape[1] == 0:
        return hidden_BSD.new_zeros(0, width)
    chosen_BGD = hidden_BSD.gather(1, plan.global_rows_BG[..., None].expand(-1, -1, width))
    heads = (module.num_heads, module.head_dim)
    query_BHGE = module.query_global(chosen_BGD).unflatten(-1, heads).transpose(1, 2)
    key_BHSE, value_BHSE = (
        projection(hidden_BSD).unflatten(-1, heads).transpose(1, 2) for projection in (module.key_global, module.value_global)
    )
    bias_B11S = plan.padding_bias_BS[:, None, None].to(query_BHGE.dtype)
    output_BHGE = nn.functional.scaled_dot_product_attention(query_BHGE, key_BHSE, value_BHSE, attn_mask=bias_B11S, dropout_p=dropout)
    return output_BHGE.transpose(1, 2).flatten(2)[plan.is_global_BG]
