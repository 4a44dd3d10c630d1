"""Prefix-propagation and prefix-tuning together: P propagated rows and, beside them, P trained keys
and values in every layer.

The propagated rows see the trained keys and values as every row does. The text moves by P
positions, as in the release.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values, follow
from components.adapters.modules.prefix_propagation import PrefixPropagation
from components.adapters.modules.prefix_tuning import PrefixTuning
from components.backbones.family import Rows


class PropagationAndPrefixTuning(nn.Module):
    """Owns the tensors of both under the names that each has alone: `prefix`, `prefix_key`,
    `prefix_value`.
    """

    def __init__(self, propagation: PrefixPropagation, tuning: PrefixTuning) -> None:
        super().__init__()
        length = propagation.rows.prefix
        self.rows = propagation.rows = tuning.rows = Rows(
            prefix=length, key_value=length, offset=length
        )
        self.trained_in_backbone = propagation.trained_in_backbone
        tuning.dropout = propagation.dropout
        # In a tuple torch does not see the two as children: their parameters are this module's own.
        self.parts: tuple[PrefixPropagation | PrefixTuning, ...] = (propagation, tuning)
        for part in self.parts:
            for name, parameter in part.named_parameters(recurse=False):
                self.register_parameter(name, parameter)
            for name, child in part.named_children():
                self.add_module(name, child)

    def forward(self) -> Values:
        for part in self.parts:
            follow(self, part)
        return {name: tensor for part in self.parts for name, tensor in part.forward().items()}

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        propagated, tuned = (part.contribute(values, batch_size=batch_size) for part in self.parts)
        return replace(tuned, before_layer=propagated.before_layer)

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        owned = [{name for name, _ in part.named_parameters()} for part in self.parts]
        return {
            name: tensor
            for part, names in zip(self.parts, owned, strict=True)
            for name, tensor in part.stored(
                {name: tensor for name, tensor in parameters.items() if name in names}
            ).items()
        }
