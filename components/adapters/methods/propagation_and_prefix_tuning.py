"""Prefix-propagation and prefix-tuning together, each with its own P positions."""

from typing import TYPE_CHECKING, ClassVar, Literal

from components.adapters.methods.method import (
    ReparametrizedPrefix,
    Setting,
    released_indexing_fault,
)
from components.backbones.layer_memory import Kept
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class PropagationAndPrefixTuningConfig(ReparametrizedPrefix):
    """Prefix-propagation and prefix-tuning together, each with its own P positions."""

    trains_with_prefix = True
    length_tensors: ClassVar = (
        "prefix",
        "prefix_key",
        "reparametrization.embedding",
        "key_value_reparametrization.embedding",
    )

    method: Literal["propagation_and_prefix_tuning"] = "propagation_and_prefix_tuning"
    released_indexing: bool = False
    """Only for comparison with the paper's release: see prefix_tuning."""

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.prefix_propagation import new_propagation
        from components.adapters.modules.prefix_tuning import new_prefix_tuning
        from components.adapters.modules.propagation_and_prefix_tuning import (
            PropagationAndPrefixTuning,
        )

        propagation = new_propagation(
            backbone,
            prefix_length=self.prefix_length,
            init_std=self.init_std,
            dropout=self.own_dropout(dropout),
            reparametrization_hidden=self.network_width,
        )
        tuning = new_prefix_tuning(
            backbone,
            prefix_length=self.prefix_length,
            init_std=self.init_std,
            dropout=self.own_dropout(dropout),
            reparametrization_hidden=self.network_width,
            released_indexing=self.released_indexing,
        )
        return PropagationAndPrefixTuning(propagation, tuning)

    def kept(self, shape: BackboneShape) -> Kept:
        """Propagated rows, and as many whose keys and values are replaced."""
        rows = 2 * self.prefix_length
        return Kept(
            rows=rows,
            global_rows=rows,
            replaces_keys=True,
            whole_last_layer=self.released_indexing,
        )

    def trained_parameters(self, shape: BackboneShape) -> int:
        return self.produced(shape.hidden, shape.layers * shape.hidden) + self.produced(
            shape.hidden, shape.layers * 2 * shape.key_value_width
        )

    def incompatibility(self, setting: Setting) -> str | None:
        return released_indexing_fault(setting) if self.released_indexing else None
