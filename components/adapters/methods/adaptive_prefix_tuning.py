"""Adaptive prefix-tuning: a trained factor per layer and prefix position, multiplied onto the
trained keys and values (APT, arXiv 2305.15212).

The factor starts at 1, so that an untrained gate changes nothing, and is stored beside the prefix
(`adapter.gate`): it shows which layers and positions the task uses.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from components.adapters.methods.method import Prefix
from components.backbones.layer_memory import Kept
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class AdaptivePrefixTuningConfig(Prefix):
    """Prefix-tuning with a trained gate per layer and prefix position on its keys and values."""

    trains_with_prefix = True
    length_tensors: ClassVar = ("prefix_key",)

    method: Literal["adaptive_prefix_tuning"] = "adaptive_prefix_tuning"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.prefix_tuning import new_prefix_tuning

        return new_prefix_tuning(
            backbone,
            prefix_length=self.prefix_length,
            init_std=self.init_std,
            dropout=self.own_dropout(dropout),
            gated=True,
        )

    def kept(self, shape: BackboneShape) -> Kept:
        return Kept(rows=self.prefix_length, global_rows=self.prefix_length, replaces_keys=True)

    def trained_parameters(self, shape: BackboneShape) -> int:
        return shape.layers * self.prefix_length * (2 * shape.key_value_width + 1)
