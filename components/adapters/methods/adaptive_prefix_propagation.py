"""Adaptive prefix-propagation: a trained factor per layer and prefix position, multiplied onto the
prefix rows (APT, arXiv 2305.15212).

The factor starts at 1, so that an untrained gate changes nothing, and is stored beside the prefix
(`adapter.gate`): it shows which layers and positions the task uses.
"""

from typing import TYPE_CHECKING, Literal

from components.adapters.methods.method import Prefix
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class AdaptivePrefixPropagationConfig(Prefix):
    """Prefix-propagation with a trained gate per layer and prefix position."""

    trains_with_prefix = True

    method: Literal["adaptive_prefix_propagation"] = "adaptive_prefix_propagation"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.prefix_propagation import new_propagation

        return new_propagation(
            backbone,
            prefix_length=self.prefix_length,
            init_std=self.init_std,
            dropout=self.own_dropout(dropout),
            gated=True,
        )

    def trained_parameters(self, shape: BackboneShape) -> int:
        return shape.layers * self.prefix_length * (shape.hidden + 1)
