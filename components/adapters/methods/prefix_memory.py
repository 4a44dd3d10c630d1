"""Prefix memory ("Prefix-Tuning+", arXiv 2506.13674): a trained matrix per layer and head, phi(q) M
added to the attention's output.
"""

from typing import TYPE_CHECKING, Literal

from components.adapters.methods.method import NoPrefix
from components.backbones.layer_memory import FLOAT32, Kept
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class PrefixMemoryConfig(NoPrefix):
    """Prefix memory ("Prefix-Tuning+"): a trained matrix per layer and head, phi(q) M added to the
    attention's output. It has no prefix length.
    """

    method: Literal["prefix_memory"] = "prefix_memory"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.prefix_memory import PrefixMemory
        from components.backbones import family_of

        family = family_of(backbone)
        sizes = family.attention_sizes(backbone)
        return PrefixMemory(
            num_layers=len(family.layers(backbone)),
            num_heads=sizes.heads,
            head_size=sizes.head_size,
            family=family,
        )

    def kept(self, shape: BackboneShape) -> Kept:
        """The query and phi of it, as the product takes it; counted as float32."""
        return Kept(whole_last_layer=True, per_row=FLOAT32 * 2 * shape.query_width)

    def trained_parameters(self, shape: BackboneShape) -> int:
        return shape.layers * shape.query_width * (shape.query_width // shape.heads)
