"""An adapter method in one file: a trained vector per layer, added to every row before it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from components.adapters.methods.method import NoPrefix
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.adapters.modules.adapter_method import AdapterMethod


class ShiftConfig(NoPrefix):
    """A trained vector per layer, added to every row."""

    method: Literal["shift"] = "shift"
    scale: float = 1.0
    """Factor on the vectors."""

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        import torch
        from torch import nn

        from components.adapters.modules.adapter_method import Contribution
        from components.backbones import family_of
        from components.backbones.family import Rows

        layers, scale = len(family_of(backbone).layers(backbone)), self.scale
        hidden: Any = backbone.config.hidden_size

        class Shift(nn.Module):
            rows, trained_in_backbone = Rows(), ()

            def __init__(self) -> None:
                super().__init__()
                self.shift = nn.Parameter(torch.zeros(layers, hidden))

            def forward(self) -> "dict[str, Tensor]":
                return {"shift": self.shift.clone()}

            def contribute(
                self, values: "Mapping[str, Tensor]", *, batch_size: int
            ) -> Contribution:
                return Contribution(
                    before_layer=lambda layer, rows_BSD: rows_BSD + scale * values["shift"][layer],
                    changes_text=True,
                )

            def stored(self, parameters: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
                return dict(parameters)

        return Shift()

    def trained_parameters(self, shape: BackboneShape) -> int:
        return shape.layers * shape.hidden
