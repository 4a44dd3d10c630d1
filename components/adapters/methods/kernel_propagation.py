"""Prefix-propagation's rows, kernel-decomposed. Only where prefix rows see the text: Longformer."""

from typing import TYPE_CHECKING, Literal

from components.adapters.methods.kernel_settings import KernelPrefixSettings
from components.adapters.methods.method import Setting
from components.backbones.layer_memory import FLOAT32, Kept
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class KernelPropagationConfig(KernelPrefixSettings):
    """Prefix-propagation's rows, kernel-decomposed. Only for longformer backbones."""

    method: Literal["kernel_propagation"] = "kernel_propagation"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.kernel_propagation import KernelPropagation
        from components.adapters.modules.prefix_propagation import new_propagation
        from components.backbones import family_of

        propagation = new_propagation(
            backbone,
            prefix_length=self.prefix_length,
            init_std=self.init_std,
            dropout=self.own_dropout(dropout),
        )
        return KernelPropagation(
            propagation,
            kernel=self.kernel,
            lengthscale=self.lengthscale,
            alpha_init=self.alpha_init,
            family=family_of(backbone),
        )

    def kept(self, shape: BackboneShape) -> Kept:
        """Of the smoother, in float32: query and the weights of every head over the prefix, what
        alpha multiplies, and the projections that it asks for a second time.
        """
        numbers = 4 * shape.query_width + shape.heads * self.prefix_length
        return Kept(
            rows=self.prefix_length,
            global_rows=self.prefix_length,
            whole_last_layer=True,
            per_row=FLOAT32 * numbers,
        )

    def trained_parameters(self, shape: BackboneShape) -> int:
        return shape.layers * (self.prefix_length * shape.hidden + 1)

    def incompatibility(self, setting: Setting) -> str | None:
        if setting.family.decomposes_prefix:
            return None
        return (
            "adapter.method kernel_propagation needs prefix rows that see the text and that the "
            f"attention can leave out, which a {setting.family.name} has not; use kernel_prefix or "
            "backbone.family longformer"
        )
