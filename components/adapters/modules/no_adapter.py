"""The control: nothing but the classification head is trained. The head dwarfs a prefix, so no
comparison is whole without it.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values
from components.backbones.family import Rows


class NoAdapter(nn.Module):
    """Adds nothing; `trained_in_backbone` may still name backbone parameters."""

    def __init__(self, trained_in_backbone: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.rows = Rows()
        self.trained_in_backbone = trained_in_backbone

    def forward(self) -> Values:
        return {}

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        # A layer cut down to one row would leave some of the trained weights without a gradient.
        return Contribution(changes_attention=bool(self.trained_in_backbone))

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        return dict(parameters)
