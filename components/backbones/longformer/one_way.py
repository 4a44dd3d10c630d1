"""Rows that read a Longformer's text and that the text does not see: global queries against the
global keys and values of text that was read alone.

The fact a newcomer gets wrong: the text keeps its own positions, not moved by the rows, which take
positions 0 to P-1 (those up to pad_token_id stand unused otherwise); and what a row reads are the
projections for global attention, as a prefix row in the two-way form does.
Shapes: B batch, T text tokens, N sequences of P rows (readers.py), D hidden, H heads, E head size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from components.backbones.numbers import numbers_of
from components.backbones.readers import Reading, dropout_of_each, most_rows
from components.backbones.text_attention import attend_readings
from components.backbones.text_states import (
    AllTaken,
    TextStates,
    mask_behind_text,
    without_dropout,
)


def read_text(
    backbone: Any, layers: Sequence[nn.Module], tokens_B: Tensor, inputs: dict[str, Any]
) -> TextStates:
    """Global keys and values of the text in every layer. `inputs`: as of the backbone's forward.

    The run ends where the last layer's are there; with shards of ZeRO-3, which counts on every
    module's call to come to its end, it is completed.
    """
    found: list[tuple[Tensor, Tensor]] = []
    sharded = any(hasattr(parameter, "ds_id") for parameter in backbone.parameters())

    def take(layer: Any, given: tuple[Any, ...]) -> None:
        attention = layer.attention.self
        found.append(
            (
                _by_head(attention, attention.key_global(given[0])),
                _by_head(attention, attention.value_global(given[0])),
            )
        )
        if len(found) == len(layers) and not sharded:
            raise AllTaken

    with torch.no_grad(), without_dropout(backbone), ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(take).remove)
        with suppress(AllTaken):
            backbone(**inputs)
    return TextStates(tuple(found), tokens_B)


def run_behind_text(
    backbone: Any, layers: Sequence[nn.Module], readings: Sequence[Reading]
) -> Tensor:
    """Last hidden states (N, P, D) of the rows of all readings; every one sees the text that it
    reads and all rows of its adapter.
    """
    weight, count = numbers_of(backbone), most_rows(readings)
    mask_NPJ = mask_behind_text(readings, weight, sees=lambda row, key: row >= 0)
    mask_N11J = mask_NPJ[:, :, :1]  # alike for all rows
    empty_NPD = weight.new_zeros(len(mask_N11J), count, backbone.config.hidden_size)
    places_NP = torch.arange(count, device=weight.device).expand(len(mask_N11J), -1)
    with dropout_of_each(backbone, readings):
        hidden_NPD = backbone.embeddings(inputs_embeds=empty_NPD, position_ids=places_NP)
        for index, layer in enumerate(layers):
            forward = _attention(readings, index, mask_N11J)
            with _stock_layer(layer), _replaced(layer.attention.self, forward):  # type: ignore[union-attr]
                hidden_NPD = layer(hidden_NPD)[0]
    return hidden_NPD


def _attention(readings: Sequence[Reading], layer: int, mask_N11J: Tensor) -> Callable[..., Any]:
    """LongformerSelfAttention.forward of global rows alone."""

    def forward(module: Any, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
        query_NHPE, key_NHPE, value_NHPE = (
            _by_head(module, project(hidden_states))
            for project in (module.query_global, module.key_global, module.value_global)
        )
        mixed_NHPE = attend_readings(
            query_NHPE,
            (key_NHPE, value_NHPE),
            readings,
            layer,
            mask_N11J,
            dropout=module.dropout if module.training else 0.0,
        )
        return (mixed_NHPE.transpose(1, 2).flatten(2),)

    return forward


def _by_head(attention: Any, states_BSD: Tensor) -> Tensor:
    return states_BSD.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)


@contextmanager
def _stock_layer(layer: Any) -> Iterator[None]:
    """Context in which the layer's forward is its class's, not checkpointed: few rows keep
    little.
    """
    fast, checkpointed = layer.__dict__.pop("forward", None), layer.gradient_checkpointing
    layer.gradient_checkpointing = False
    try:
        yield
    finally:
        layer.gradient_checkpointing = checkpointed
        if fast is not None:
            layer.forward = fast


@contextmanager
def _replaced(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    before = module.__dict__.get("forward")
    module.forward = forward.__get__(module)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
