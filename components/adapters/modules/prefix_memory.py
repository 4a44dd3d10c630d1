"""Prefix memory ("Prefix-Tuning+", arXiv 2506.13674): the prefix leaves the softmax and becomes a
matrix, o_i = attn_i + phi(q_i) M, phi = elu + 1.

The query is the projected one, unscaled and before any rotary rotation, so that the memory does not
depend on positions. M starts at zero: an untrained memory changes nothing.
Shapes: B batch, S rows, L layers, H heads, E head size.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values
from components.backbones.family import BackboneFamily, Rows


class PrefixMemory(nn.Module):
    """One (E, E) matrix per layer and head."""

    def __init__(
        self, *, num_layers: int, num_heads: int, head_size: int, family: BackboneFamily
    ) -> None:
        super().__init__()
        self.rows = Rows()
        self.trained_in_backbone: tuple[str, ...] = ()
        self.family = family
        self.memory = nn.Parameter(torch.zeros(num_layers, num_heads, head_size, head_size))

    def forward(self) -> Values:
        return {"memory": self.memory.clone()}

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        def inside_layer(index: int, layer: nn.Module) -> AbstractContextManager[Any]:
            return self.family.added_to_attention(
                layer, lambda query_BSHE: recall(query_BSHE, values["memory"][index])
            )

        return Contribution(inside_layer=inside_layer, changes_attention=True)

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        return dict(parameters)


def recall(query_BSHE: Tensor, memory_HEE: Tensor) -> Tensor:
    """phi(q) M, (B, S, H, E)."""
    return torch.einsum(
        "bshe,hef->bshf", nn.functional.elu(query_BSHE) + 1.0, memory_HEE.to(query_BSHE.dtype)
    )
