"""The first layer of a decoder under a trained prefix: its text rows' queries, keys and values are
the frozen embeddings' alone, so they take no part in the backward pass.

The stock layer runs twice, unchanged: over the prefix rows, which see nothing else, and over the
text rows, cut off from the graph. There the attention among text rows is computed once and kept as
output and log-sum-exp; what is trained enters as P keys more in its softmax. Saved is the backward
pass of one layer's attention and projections, and what they would keep for it.

The fact a newcomer gets wrong: the output of text rows does depend on the prefix, by these P keys;
from there on everything is differentiated as ever.
Shapes: B batch, P prefix, T text rows, S = P + T, D hidden, H heads, K key/value heads, E head
size.
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

NAME = "prefixprop_constant_text"
"""Our attention function's name in transformers' table, and where a module keeps the run."""
CONSTANT_FROM = "constant_from"
"""The argument that the layer's forward takes more."""


def install_constant_text(layer: nn.Module, attention: nn.Module) -> None:
    """Let a layer's forward take `constant_from`: the number P of prefix rows, behind which its
    input depends on nothing that is trained. `attention`: the module in it that calls
    transformers' attention function.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention_function)
    install_forward(layer, attention, argument=CONSTANT_FROM, run=_split)


@dataclass(frozen=True)
class ConstantTextFacts:
    """What decides whether the first layer is split."""

    device_type: str
    implementation: str | None
    dropout: float
    installed: bool
    trained_or_sharded: bool
    """Whether any parameter of the layer is trained, or a shard of ZeRO-3 here."""


def splits_layer(facts: ConstantTextFacts) -> bool:
    """On CPUs, whose kernel tells its log-sum-exp whatever the mask; under sdpa without dropout,
    on frozen, whole weights. Not on GPUs: nobody has tried it there yet.
    """
    return (
        facts.installed
        and not facts.trained_or_sharded
        and facts.device_type == "cpu"
        and facts.implementation == "sdpa"
        and facts.dropout == 0.0
    )


def constant_text_facts(layer: Any) -> ConstantTextFacts:
    """Of a layer as it stands now."""
    parameters = list(layer.parameters())
    installed = takes_argument(layer, CONSTANT_FROM)
    config = attention_of(layer).config if installed else None
    return ConstantTextFacts(
        device_type=parameters[0].device.type,
        implementation=getattr(config, "_attn_implementation", None),
        dropout=float(getattr(config, "attention_dropout", None) or 0.0) if layer.training else 0.0,
        installed=installed,
        trained_or_sharded=any(one.requires_grad or hasattr(one, "ds_id") for one in parameters),
    )


@contextmanager
def constant_text(layer: nn.Module, prefix_rows: int) -> Iterator[None]:
    """Context in which the layer's rows behind the first `prefix_rows` count as constant, where
    splits_layer says so.
    """
    if prefix_rows == 0 or not splits_layer(constant_text_facts(layer)):
        yield
        return
    with given(layer, CONSTANT_FROM, prefix_rows):
        yield


@dataclass
class _Run:
    """`key_BKPE`, `value_BKPE`: None until the run over the prefix rows has met the attention
    function.
    """

    key_BKPE: Tensor | None = None
    value_BKPE: Tensor | None = None


def _split(
    layer: Any, prefix_rows: int, options: dict[str, Any], hidden_BSD: Tensor, *args: Any
) -> Any:
    forward = stock_forward(layer)
    whole = (hidden_BSD.shape[0], hidden_BSD.shape[1])

    def over(rows: slice, rows_BRD: Tensor) -> Any:
        given = of_rows(options, lambda value: value[:, rows], whole)
        mask = options.get("attention_mask")
        given["attention_mask"] = None if mask is None else mask[..., rows, rows]
        return forward(
            layer, rows_BRD, *of_rows(args, lambda value: value[:, rows], whole), **given
        )

    before, behind = slice(0, prefix_rows), slice(prefix_rows, None)
    with answered(attention_of(layer), NAME, _Run()):
        prefix = over(before, hidden_BSD[:, before])
        text = over(behind, hidden_BSD[:, behind].detach())
    if isinstance(prefix, tuple):
        return (torch.cat([prefix[0], text[0]], dim=1), *prefix[1:])
    return torch.cat([prefix, text], dim=1)


def _attention_function(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    run: _Run = module.__dict__[NAME]
    if run.key_BKPE is None or run.value_BKPE is None:
        run.key_BKPE, run.value_BKPE = key, value
        result: tuple[Tensor, Tensor | None] = stock_function(module, "sdpa")(
            module, query, key, value, attention_mask, **options
        )
        return result
    scaling = options.get("scaling") or query.shape[-1] ** -0.5
    text_BHTE, sum_BHT = _among_text(query, key, value, attention_mask, scaling)
    groups = query.shape[1] // key.shape[1]
    key_BHPE = run.key_BKPE.repeat_interleave(groups, dim=1)
    value_BHPE = run.value_BKPE.repeat_interleave(groups, dim=1)
    score_BHTP = (query @ key_BHPE.transpose(-1, -2)) * scaling
    # The text's keys enter the softmax as one, whose score is their log-sum-exp.
    score_BHTJ = torch.cat([sum_BHT[..., None], score_BHTP.float()], dim=-1)
    share_BHTJ = score_BHTJ.softmax(dim=-1).to(query.dtype)
    output_BHTE = share_BHTJ[..., :1] * text_BHTE + share_BHTJ[..., 1:] @ value_BHPE
    return output_BHTE.transpose(1, 2).contiguous(), None


def _among_text(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor]:
    """Attention of text rows to text rows (B, H, T, E), and the log-sum-exp of their scores
    (B, H, T) float32: what torch's SDPA computes on a CPU, which keeps the second to itself.
    """
    added = bias(mask, query) if mask is not None and mask.dtype == torch.bool else mask
    with torch.no_grad():
        output, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, mask is None, attn_mask=added, scale=scaling
        )
    return output, log_sum
