"""Prefix-tuning's trained keys and values, kernel-decomposed: a normaliser of their own, beside the
text's softmax.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from components.adapters.methods.kernel_settings import KernelPrefixSettings
from components.backbones.layer_memory import FLOAT32, Kept
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class KernelPrefixConfig(KernelPrefixSettings):
    """Prefix-tuning's trained keys and values, kernel-decomposed."""

    length_tensors: ClassVar = ("prefix_key",)

    method: Literal["kernel_prefix"] = "kernel_prefix"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.kernel_prefix import KernelPrefix
        from components.backbones import family_of

        family = family_of(backbone)
        return KernelPrefix(
            prefix_length=self.prefix_length,
            kernel=self.kernel,
            lengthscale=self.lengthscale,
            alpha_init=self.alpha_init,
            init_std=self.init_std,
            num_layers=len(family.layers(backbone)),
            sizes=family.attention_sizes(backbone),
            dropout=self.own_dropout(dropout),
            family=family,
        )

    def kept(self, shape: BackboneShape) -> Kept:
        """No rows beside the text. Of the smoother, in float32: the query, the weights of every
        head over the prefix, and what alpha multiplies.
        """
        numbers = 2 * shape.query_width + shape.heads * self.prefix_length
        return Kept(whole_last_layer=True, per_row=FLOAT32 * numbers)

    def trained_parameters(self, shape: BackboneShape) -> int:
        return shape.layers * (self.prefix_length * 2 * shape.key_value_width + 1)
