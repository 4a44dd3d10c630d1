"""Prompt-tuning: trainable embeddings of P positions before the text, at the first layer only."""

from typing import TYPE_CHECKING, ClassVar, Literal

from components.adapters.methods.method import Prefix
from components.adapters.methods.prefix_start import PrefixStart
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class PromptTuningConfig(PrefixStart, Prefix):
    """Prompt-tuning: trainable embeddings of P positions before the text, at the first layer
    only.
    """

    length_tensors: ClassVar = ("prompt",)

    method: Literal["prompt_tuning"] = "prompt_tuning"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.prompt_tuning import PromptTuning

        return PromptTuning(
            prefix_length=self.prefix_length,
            hidden_size=backbone.config.hidden_size,  # type: ignore[union-attr, arg-type]
            init_std=self.init_std if self.init == "normal" else 0.0,
            dropout=self.own_dropout(dropout),
        )

    def trained_parameters(self, shape: BackboneShape) -> int:
        return self.prefix_length * shape.hidden
