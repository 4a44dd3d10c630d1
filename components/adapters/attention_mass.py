"""How much of its attention each layer and head gives to the prefix: Z_prefix / (Z_prefix +
Z_text), averaged over rows. For the softmax prefix methods on Longformer.

It is the quantity that must shrink as documents grow wherever a row sees the whole document: the
first text row does, a local row sees its window whatever the document's length.
Shapes: B batch, L layers, H heads, S rows.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.adapters.model import AdaptedModel
from components.backbones.longformer.hooks import Change, changed_output
from components.backbones.longformer.parts import log_alpha
from components.errors import BackboneError, ConfigError

SOFTMAX_PREFIXES = ("prefix_tuning", "prefix_propagation")


@dataclass(frozen=True)
class AttentionMass:
    """Shares from 0 to 1 of every document. `local_BLH`: mean over the text rows that see their
    window; `first_BLH`: of the first text row, which sees the whole text; `prefix_BLH`: mean over
    the prefix rows themselves, None for a method without such rows. `spread_BL`: standard deviation
    of the share over local rows and heads.
    """

    local_BLH: Tensor
    first_BLH: Tensor
    prefix_BLH: Tensor | None
    spread_BL: Tensor


def attention_mass(
    model: AdaptedModel, input_ids: Tensor, attention_mask: Tensor | None = None
) -> AttentionMass:
    """The shares of one batch, input_ids (B, T); the model is run once, in evaluation mode. Raises
    ConfigError for a method that has no prefix in its softmax.
    """
    before = rows_before_text(model)
    shares: dict[int, tuple[Tensor, ...]] = {}

    def observe(layer: int) -> Change:
        def change(module: Any, hidden_BSD: Tensor, mask_BS: Tensor, output_BSD: Tensor) -> Tensor:
            shares[layer] = _mean_shares(
                log_alpha(module, hidden_BSD, mask_BS, before).sigmoid(), mask_BS, before
            )
            return output_BSD

        return change

    model.eval()
    with torch.no_grad(), attention_changed(model, observe):
        model(input_ids=input_ids, attention_mask=attention_mask)
    local, first, prefix, spread = (
        torch.stack([shares[layer][part] for layer in sorted(shares)], dim=1) for part in range(4)
    )
    return AttentionMass(local, first, prefix if model.adapter.rows.prefix else None, spread)


def mass_by_length(
    model: AdaptedModel, documents: Sequence[Sequence[int]], lengths: Sequence[int]
) -> dict[int, AttentionMass]:
    """Length -> shares of the first so many tokens of each document (token ids), one document at a
    time. Raises ValueError for a document that is shorter than a length.
    """
    short = [len(document) for document in documents if len(document) < max(lengths)]
    if short or not documents:
        raise ValueError(
            f"documents of at least {max(lengths)} tokens are needed, got "
            f"{short[0] if short else 'none'}"
        )
    device = model.device
    found = {}
    for length in lengths:
        each = [
            attention_mass(model, torch.tensor([list(document[:length])], device=device))
            for document in documents
        ]
        prefix = [mass.prefix_BLH for mass in each if mass.prefix_BLH is not None]
        found[length] = AttentionMass(
            local_BLH=torch.cat([mass.local_BLH for mass in each]),
            first_BLH=torch.cat([mass.first_BLH for mass in each]),
            prefix_BLH=torch.cat(prefix) if prefix else None,
            spread_BL=torch.cat([mass.spread_BL for mass in each]),
        )
    return found


def _mean_shares(share_BHS: Tensor, mask_BS: Tensor, before: int) -> tuple[Tensor, ...]:
    is_local_BS = mask_BS == 0
    is_local_BS[:, :before] = False
    is_first_BS = mask_BS > 0
    is_first_BS[:, :before] = False
    local_BH, first_BH = (
        (share_BHS * chosen_BS[:, None]).sum(-1) / chosen_BS.sum(-1, keepdim=True)
        for chosen_BS in (is_local_BS, is_first_BS)
    )
    spread_B = torch.stack(
        [
            share_HS[:, chosen_S].std()
            for share_HS, chosen_S in zip(share_BHS, is_local_BS, strict=True)
        ]
    )
    return local_BH, first_BH, share_BHS[..., :before].mean(-1), spread_B


def rows_before_text(model: AdaptedModel) -> int:
    """Prefix rows of a model whose prefix stands in the softmax. Raises ConfigError or
    BackboneError where it does not, or cannot be looked at.
    """
    if model.adapter_config.method not in SOFTMAX_PREFIXES:
        raise ConfigError(
            f"adapter.method '{model.adapter_config.method}' has no prefix in its softmax; choose "
            f"one of {', '.join(SOFTMAX_PREFIXES)}"
        )
    if model.family.name != "longformer":
        raise BackboneError(
            "attention to the prefix is measured on longformer backbones, this one is "
            f"{model.family.name}"
        )
    return int(model.adapter.rows.key_value + model.adapter.rows.prefix)


@contextmanager
def attention_changed(model: AdaptedModel, change: Callable[[int], Change]) -> Iterator[None]:
    """Context in which every layer's attention output goes through `change(layer)`; for forward
    passes without recomputation.
    """
    with ExitStack() as stack:
        for index, layer in enumerate(model.family.layers(model.backbone)):
            attention: Any = layer.attention.self  # type: ignore[union-attr]
            stack.enter_context(changed_output(attention, change(index)))
        yield
