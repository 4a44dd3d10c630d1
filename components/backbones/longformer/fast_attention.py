"""Longformer's self-attention, exact and fast, put into a stock LongformerModel by replacing
methods of its instances: no forked modelling file, undone by `uninstall_fast_attention`.

On a CPU the local rows go block by block through banded_attention.py; on a GPU through a compiled
FlexAttention (flex_attention.py), with attention dropout through one batched call
(windowed_attention.py): kernel_choice.py decides. Outputs and gradients equal the stock
implementation's at every real row. A padding row's hidden state may differ from the stock model's,
stays finite, and never reaches a real row. The model no longer pads documents to a multiple of the
window, and no longer builds a mask of S x S.

Every projection that has hooks is called as the module that it is: ZeRO-3 gathers a module's
weights only around its own call.
Shapes: B batch, S rows, D hidden, G global rows (largest count in the batch), N global rows of all
examples, R rows asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from components.backbones.longformer.attention_plan import AttentionPlan
from components.backbones.longformer.banded_attention import banded_attention
from components.backbones.longformer.flex_attention import flex_local_attention, has_compiler
from components.backbones.longformer.global_attention import global_attention
from components.backbones.longformer.kernel_choice import (
    LocalAttentionFacts,
    LocalKernel,
    local_kernel,
    softmax_dtype,
)
from components.backbones.longformer.windowed_attention import windowed_attention

BLOCK_SIZE = 128
"""Query rows computed together: 64 to 256 differ by a few percent
(pipelines/research/benchmark/README.md).
"""


def fast_attention_available(backbone: nn.Module) -> bool:
    """Whether `install_fast_attention` can speed this model up: whether there is a LongformerModel
    in it.
    """
    return bool(_modules(backbone, "LongformerModel"))


def install_fast_attention(backbone: nn.Module) -> None:
    """Make every LongformerModel in `backbone` fast, in place; a second call changes nothing.

    Attention weights cannot be returned then (output_attentions). The model's forward takes one
    more argument, `output_rows` (B, R) int64: the rows of `last_hidden_state` that will be read.
    The last layer then computes only what these need, and every other row of `last_hidden_state` is
    zero.
    """
    for model in _modules(backbone, "LongformerModel"):
        passes = _Passes()
        replacements: list[tuple[Any, Callable[..., Any]]] = [
            (model, _model_forward),
            (model.encoder.layer[-1], _last_layer_forward),
        ]
        replacements += [
            (module, _attention_forward) for module in _modules(model, "LongformerSelfAttention")
        ]
        for module, forward in replacements:
            module.forward = MethodType(
                forward, module
            )  # a bound method follows its module into a deep copy; a closure would not
            module.fast_attention_passes = passes


def uninstall_fast_attention(backbone: nn.Module) -> None:
    """Give the model its stock methods back."""
    for model in _modules(backbone, "LongformerModel"):
        for module in (model, model.encoder.layer[-1], *_modules(model, "LongformerSelfAttention")):
            module.__dict__.pop("forward", None)
            module.__dict__.pop("fast_attention_passes", None)


def takes_output_rows(backbone: nn.Module) -> bool:
    """Whether the model's forward takes `output_rows`: whether fast attention is installed in
    it.
    """
    return any("forward" in model.__dict__ for model in _modules(backbone, "LongformerModel"))


def _modules(backbone: nn.Module, class_name: str) -> list[Any]:
    from transformers.models.longformer import modeling_longformer

    return [
        module
        for module in backbone.modules()
        if isinstance(module, getattr(modeling_longformer, class_name))
    ]


@dataclass
class _Pass:
    """What the layers of one forward pass share."""

    output_rows_BR: Tensor | None = None
    plans: dict[tuple[int, torch.dtype], AttentionPlan] = field(default_factory=dict)


class _Passes:
    """The forward passes that are still alive, by the mask tensor that all layers of a pass are
    given, also when one is recomputed in the backward pass.
    """

    def __init__(self) -> None:
        self._by_mask: Any = WeakIdKeyDictionary()

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Passes":
        return _Passes()

    def __reduce__(self) -> tuple[type["_Passes"], tuple[()]]:
        return _Passes, ()

    def of(self, attention_mask_BS: Tensor) -> _Pass:
        found: _Pass = self._by_mask.setdefault(attention_mask_BS, _Pass())
        return found

    def plan(self, module: Any, attention_mask_BS: Tensor, dtype: torch.dtype) -> AttentionPlan:
        plans, window = self.of(attention_mask_BS).plans, module.one_sided_attn_window_size
        if (window, dtype) not in plans:
            plans[window, dtype] = AttentionPlan(
                attention_mask_BS, one_sided_window=window, block_size=BLOCK_SIZE, dtype=dtype
            )
        return plans[window, dtype]


def _model_forward(
    model: Any,
    input_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    global_attention_mask: Tensor | None = None,
    token_type_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    inputs_embeds: Tensor | None = None,
    output_hidden_states: bool | None = None,
    return_dict: bool | None = None,
    *,
    output_attentions: bool | None = None,
    output_rows: Tensor | None = None,
) -> Any:
    """LongformerModel.forward without padding to the window and without a mask of S x S."""
    from transformers.models.longformer.modeling_longformer import (
        LongformerBaseModelOutputWithPooling,
    )

    if output_attentions or (output_attentions is None and model.config.output_attentions):
        raise ValueError(
            "The fast attention keeps no attention weights: set backbone.attention=stock, or call "
            "uninstall_fast_attention(backbone)."
        )
    embedded_BSD = model.embeddings(
        input_ids=input_ids,
        position_ids=position_ids,
        token_type_ids=token_type_ids,
        inputs_embeds=inputs_embeds,
    )
    mask_BS = _encoder_mask(embedded_BSD, attention_mask, global_attention_mask)
    model.fast_attention_passes.of(mask_BS).output_rows_BR = output_rows
    wants_all = (
        model.config.output_hidden_states if output_hidden_states is None else output_hidden_states
    )
    encoded = model.encoder(
        embedded_BSD, attention_mask=mask_BS, output_hidden_states=wants_all, return_dict=True
    )
    hidden_BSD = encoded.last_hidden_state
    output = LongformerBaseModelOutputWithPooling(
        last_hidden_state=hidden_BSD,
        pooler_output=None if model.pooler is None else model.pooler(hidden_BSD),
        hidden_states=encoded.hidden_states,
    )
    as_dict = model.config.return_dict if return_dict is None else return_dict
    return (
        output
        if as_dict
        else (hidden_BSD, output.pooler_output, *([output.hidden_states] if wants_all else []))
    )


def _encoder_mask(
    embedded_BSD: Tensor, attention_mask_BS: Tensor | None, global_mask_BS: Tensor | None
) -> Tensor:
    """What LongformerEncoder expects: below 0 for padding, above 0 for global rows, 0 for local
    rows.
    """
    mask_BS = (
        embedded_BSD.new_ones(embedded_BSD.shape[:2])
        if attention_mask_BS is None
        else attention_mask_BS
    )
    if global_mask_BS is not None:
        mask_BS = mask_BS * (global_mask_BS + 1)
    return mask_BS.to(torch.float32) - 1.0


def _attention_forward(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,
    **_: Any,
) -> tuple[Tensor]:
    """LongformerSelfAttention.forward."""
    assert not output_attentions, "refused by the model's forward"
    query_BSD, key_BSD, value_BSD = (
        module.query(hidden_states),
        module.key(hidden_states),
        module.value(hidden_states),
    )
    plan = module.fast_attention_passes.plan(module, attention_mask, softmax_dtype(query_BSD.dtype))
    dropout = module.dropout if module.training else 0.0
    if plan.global_rows_BG.shape[1]:
        global_BGD = global_attention(
            module, hidden_states, plan.global_rows_BG, plan.padding_bias_BS, dropout=dropout
        )
        global_ND = global_BGD[plan.real_places].to(query_BSD.dtype)
    else:
        global_ND = query_BSD.new_zeros(0, query_BSD.shape[-1])
    return (
        LOCAL_KERNELS[local_kernel(_facts(module, query_BSD, dropout))](
            query_BSD,
            key_BSD,
            value_BSD,
            global_ND,
            plan=plan,
            num_heads=module.num_heads,
            dropout=dropout,
        ),
    )


LOCAL_KERNELS: dict[LocalKernel, Callable[..., Tensor]] = {
    "blocks": banded_attention,
    "windows": windowed_attention,
    "flex": flex_local_attention,
}


def _facts(module: Any, query_BSD: Tensor, dropout: float) -> LocalAttentionFacts:
    return LocalAttentionFacts(
        device_type=query_BSD.device.type,
        dtype=query_BSD.dtype,
        dropout=dropout,
        rows=query_BSD.shape[1],
        one_sided_window=module.one_sided_attn_window_size,
        head_size=module.head_dim,
        compiler=has_compiler(),
    )


def _last_layer_forward(
    layer: Any, hidden_states: Tensor, attention_mask: Tensor, **others: Any
) -> tuple[Tensor]:
    """LongformerLayer.forward that computes only the rows asked for."""
    passes, attention = layer.fast_attention_passes, layer.attention.self
    rows_BR = passes.of(attention_mask).output_rows_BR
    if rows_BR is None:
        stock: tuple[Tensor] = type(layer).forward(
            layer, hidden_states, attention_mask=attention_mask, **others
        )
        return stock
    index_BRD = rows_BR[..., None].expand(-1, -1, hidden_states.shape[-1])
    if not attention._forward_hooks and bool(
        (attention_mask > 0).gather(1, rows_BR).all()
    ):  # a hook wants to see every row
        plan = passes.plan(attention, attention_mask, softmax_dtype(hidden_states.dtype))
        dropout = attention.dropout if attention.training else 0.0
        attended_BRD = global_attention(
            attention, hidden_states, rows_BR, plan.padding_bias_BS, dropout=dropout
        )
    else:
        attended_BRD = attention(hidden_states, attention_mask=attention_mask)[0].gather(
            1, index_BRD
        )
    result_BRD = layer.ff_chunk(
        layer.attention.output(attended_BRD, hidden_states.gather(1, index_BRD))
    )
    return (
        torch.zeros_like(hidden_states, dtype=result_BRD.dtype).scatter(1, index_BRD, result_BRD),
    )
