"""Prefix-tuning (P-tuning v2): trainable keys and values that every position of every layer
sees.
"""

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


class PrefixTuningConfig(ReparametrizedPrefix):
    """Prefix-tuning (P-tuning v2): trainable keys and values that every position of every layer
    sees.
    """

    trains_with_prefix = True
    length_tensors: ClassVar = ("prefix_key", "key_value_reparametrization.embedding")

    method: Literal["prefix_tuning"] = "prefix_tuning"
    released_indexing: bool = False
    """Only for comparison with the paper's release: its index error, by which text rows 1..P take
    the global path, on Longformer.
    """

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.prefix_tuning import new_prefix_tuning

        return new_prefix_tuning(
            backbone,
            prefix_length=self.prefix_length,
            init_std=self.init_std,
            dropout=self.own_dropout(dropout),
            reparametrization_hidden=self.network_width,
            released_indexing=self.released_indexing,
        )

    def kept(self, shape: BackboneShape) -> Kept:
        rows = self.prefix_length
        return Kept(
            rows=rows,
            global_rows=rows,
            replaces_keys=True,
            whole_last_layer=self.released_indexing,
        )

    def trained_parameters(self, shape: BackboneShape) -> int:
        return self.produced(shape.hidden, shape.layers * 2 * shape.key_value_width)

    def incompatibility(self, setting: Setting) -> str | None:
        return released_indexing_fault(setting) if self.released_indexing else None
