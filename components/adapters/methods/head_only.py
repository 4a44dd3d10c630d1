"""The control: nothing but the head is trained. The head dwarfs a prefix, so no comparison is whole
without it.
"""

from typing import TYPE_CHECKING, Literal

from components.adapters.methods.method import NoPrefix, Setting
from components.backbones.layer_memory import Kept
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class HeadOnlyConfig(NoPrefix):
    """Only the head is trained: the control."""

    method: Literal["head_only"] = "head_only"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.no_adapter import NoAdapter

        return NoAdapter()

    def kept(self, shape: BackboneShape) -> Kept:
        return Kept(in_layers=False)

    def trained_parameters(self, shape: BackboneShape) -> int:
        return 0

    def incompatibility(self, setting: Setting) -> str | None:
        if setting.task.head_parameters(1, num_labels=2, form="linear"):
            return None
        return (
            "adapter.method head_only trains the head alone, and that of "
            f"{setting.task.words} is not trained; choose another method"
        )
