"""The last layer of a decoder for the rows that will be read: keys and values of every row, and
queries, output projection and feed-forward part of the few rows alone.

The stock layer runs twice, unchanged. First over all rows, as far as its attention's call of the
attention function: there the keys and values are taken (normed, rotated, replaced by a prefix's,
whatever the layer does), and the run ends. Then over the read rows alone, where the attention
function meets those keys and values in place of the rows' own. So it holds for every layer that
works row by row outside its attention: pre-norm, post-norm, parallel, with experts.

The fact a newcomer gets wrong: both runs belong into one checkpointed function, and ZeRO-3 counts
on every module's call to come to its end, so there the layer is left as it is.
Shapes: B batch, S rows, R read rows, D hidden, H heads, E head size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from components.backbones.answered_attention import answered, bias, of_rows, stock_function
from components.backbones.own_forward import (
    attention_of,
    given,
    install_forward,
    stock_forward,
    takes_argument,
)

NAME = "prefixprop_read_rows"
"""Our attention function's name in transformers' table, and where a module keeps the run."""
READ_ROWS = "read_rows"
"""The argument that the layer's forward takes more."""


def install_read_rows(layer: nn.Module, attention: nn.Module) -> None:
    """Let a layer's forward take `read_rows` (B, R) int64: only these rows of its output are then
    computed, every other one is zero. `attention`: the module in it that calls transformers'
    attention function.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention_function)
    install_forward(layer, attention, argument=READ_ROWS, run=_read)


def takes_read_rows(layer: nn.Module) -> bool:
    """Whether the layer can compute read rows alone: installed, and its weights are whole here."""
    whole = not any(hasattr(parameter, "ds_id") for parameter in layer.parameters())
    return whole and takes_argument(layer, READ_ROWS)


@contextmanager
def only_read_rows(layer: nn.Module, rows_BR: Tensor) -> Iterator[None]:
    """Context in which the layer computes these rows alone, where it can."""
    if not takes_read_rows(layer):
        yield
        return
    with given(layer, READ_ROWS, rows_BR):
        yield


class _KeysAndValuesTaken(Exception):
    """Ends the run over all rows."""


@dataclass
class _Run:
    """`key_BHSE`, `value_BHSE`, `mask`: None until the run over all rows has met the attention
    function; `implementation`: the one that the model was loaded with.
    """

    rows_BR: Tensor
    implementation: str | None
    key_BHSE: Tensor | None = None
    value_BHSE: Tensor | None = None
    mask: Any = None


def _read(
    layer: Any, rows_BR: Tensor, options: dict[str, Any], hidden_BSD: Tensor, *args: Any
) -> Any:
    attention, forward = attention_of(layer), stock_forward(layer)
    whole = (hidden_BSD.shape[0], hidden_BSD.shape[1])
    index_BRD = rows_BR[..., None].expand(-1, -1, hidden_BSD.shape[-1])
    run = _Run(rows_BR, attention.config._attn_implementation)

    def take(value: Tensor) -> Tensor:
        index = rows_BR.view(*rows_BR.shape, *[1] * (value.ndim - 2))
        return value.gather(1, index.expand(-1, -1, *value.shape[2:]))

    with answered(attention, NAME, run):
        try:
            with _one_query(attention):
                forward(layer, hidden_BSD, *args, **options)
        except _KeysAndValuesTaken:
            pass
        assert run.key_BHSE is not None, "the layer did not call its attention function"
        chosen = of_rows(options, take, whole) | {"attention_mask": None}
        with _without_hooks(attention):
            output = forward(
                layer,
                hidden_BSD.gather(1, index_BRD),
                *of_rows(args, take, whole),
                **chosen,
            )
    first = output[0] if isinstance(output, tuple) else output
    all_BSD = torch.zeros_like(hidden_BSD, dtype=first.dtype).scatter(1, index_BRD, first)
    return (all_BSD, *output[1:]) if isinstance(output, tuple) else all_BSD


def _attention_function(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    run: _Run = module.__dict__[NAME]
    if run.key_BHSE is None or run.value_BHSE is None:
        run.key_BHSE, run.value_BHSE, run.mask = key, value, attention_mask
        raise _KeysAndValuesTaken
    seen_BHRS = _mask_of_rows(run, is_causal=getattr(module, "is_causal", True), like=query)
    attend = stock_function(module, run.implementation)
    result: tuple[Tensor, Tensor | None] = attend(
        module, query, run.key_BHSE, run.value_BHSE, seen_BHRS, **options
    )
    return result


def _mask_of_rows(run: _Run, *, is_causal: bool, like: Tensor) -> Tensor:
    """(B, 1 or H, R, S) of the read rows, added to the scores: 0 where a key is seen."""
    assert run.key_BHSE is not None
    rows_BR, length = run.rows_BR, run.key_BHSE.shape[-2]
    key_S = torch.arange(length, device=rows_BR.device)
    if run.mask is None:
        row_BR1 = rows_BR[..., None]
        seen_BRS = (key_S <= row_BR1) if is_causal else torch.ones_like(key_S <= row_BR1)
        return bias(seen_BRS[:, None], like)
    if hasattr(run.mask, "mask_mod"):  # FlexAttention's BlockMask
        batch_B11 = torch.arange(len(rows_BR), device=rows_BR.device)[:, None, None]
        head = torch.zeros_like(batch_B11)
        seen_BRS = run.mask.mask_mod(batch_B11, head, rows_BR[..., None], key_S)
        return bias(seen_BRS[:, None], like)
    given = run.mask.expand(len(rows_BR), -1, -1, -1)[..., :length]
    index = rows_BR[:, None, :, None].expand(-1, given.shape[1], -1, length)
    mask_BHRS = given.gather(2, index)
    return bias(mask_BHRS, like) if mask_BHRS.dtype == torch.bool else mask_BHRS


@contextmanager
def _one_query(attention: Any) -> Iterator[None]:
    """Context in which the query projection of all rows is that of the first: nobody will read
    it. Where there is no such module (fused projections), it is computed and left.
    """
    projection = getattr(attention, "q_proj", None)
    if projection is None:
        yield
        return
    rows: list[int] = []

    def first(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        rows.append(inputs[0].shape[1])
        return (inputs[0][:, :1].detach(), *inputs[1:])

    def repeated(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        return output.detach().expand(-1, rows.pop(), -1)

    handles = (
        projection.register_forward_pre_hook(first),
        projection.register_forward_hook(repeated),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _without_hooks(attention: nn.Module) -> Iterator[None]:
    """Context in which hooks inside the attention rest: what they change of keys, values and their
    rotation has been taken with all rows, and they count on all rows.
    """
    kept = [
        (module, module._forward_hooks, module._forward_pre_hooks) for module in attention.modules()
    ]
    try:
        for module, after, before in kept:
            module._forward_hooks, module._forward_pre_hooks = type(after)(), type(before)()
        yield
    finally:
        for module, after, before in kept:
            module._forward_hooks, module._forward_pre_hooks = after, before
