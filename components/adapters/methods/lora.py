"""LoRA, by the peft library: W x + (alpha / r) B A x for chosen linear modules of every layer."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from components.adapters.methods.method import NoPrefix
from components.backbones.layer_memory import Kept
from components.backbones.shape import BackboneShape
from components.errors import ConfigError
from components.settings import Fraction, PositiveInt, Texts

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class LoraConfig(NoPrefix):
    """LoRA, by the peft library: a trained low-rank update of chosen matrices."""

    packages = ("peft",)

    method: Literal["lora"] = "lora"
    rank: Annotated[PositiveInt, Field(le=4_096)] = 8
    """Rank r: r * (in + out) trained parameters per matrix."""
    alpha: Annotated[float, Field(ge=1e-6, le=1e6)] = 16.0
    """Scale: the update is multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout probability on the update's input."""
    targets: Annotated[Texts, Field(min_length=1)] | None = None
    """Names of linear modules inside each layer; null takes the query and value projections of the
    model type.
    """

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.lora import new_lora
        from components.backbones import backbone_shape

        config: Any = backbone.config
        return new_lora(
            backbone,
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            targets=self.targets or backbone_shape(config.to_dict()).lora_targets,
        )

    def kept(self, shape: BackboneShape) -> Kept:
        return Kept(
            targets=tuple(self.targets or shape.lora_targets),
            rank=self.rank,
            drops_inputs=self.dropout > 0,
            whole_last_layer=True,
        )

    def trained_parameters(self, shape: BackboneShape) -> int:
        widths, targets = shape.linear_widths, self.targets or shape.lora_targets
        unknown = [target for target in targets if target not in widths]
        if unknown:
            raise ConfigError(
                f"adapter.targets: the sizes of '{unknown[0]}' are not known to the planner. "
                f"Known: {', '.join(widths)}."
            )
        return shape.layers * sum(self.rank * sum(widths[target]) for target in targets)
