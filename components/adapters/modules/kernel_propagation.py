"""Kernel-decomposed prefix-propagation: propagated prefix rows with a normaliser of their own,
beside the text's softmax.

The rows are those of prefix-propagation, their keys and values the backbone's own projections of
their states. Every row attends to the text alone, and alpha times the kernel smoother over the
prefix rows comes on top (kernel_prefix.py has the formula). Only where prefix rows see the text:
Longformer.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values, follow
from components.adapters.modules.kernel_prefix import smoothed
from components.adapters.modules.prefix_propagation import PrefixPropagation
from components.backbones.family import BackboneFamily


class KernelPropagation(nn.Module):
    """The prefix of every layer, and alpha."""

    def __init__(
        self,
        propagation: PrefixPropagation,
        *,
        kernel: str,
        lengthscale: float,
        alpha_init: float,
        family: BackboneFamily,
    ) -> None:
        super().__init__()
        self.kernel, self.lengthscale, self.family = kernel, lengthscale, family
        self.rows = replace(propagation.rows, decomposed=True)
        self.trained_in_backbone = propagation.trained_in_backbone
        # In a tuple torch does not see it as a child: its parameter is this module's own.
        self.parts = (propagation,)
        self.prefix, self.dropout = propagation.prefix, propagation.dropout
        self.alpha = nn.Parameter(torch.full((propagation.num_layers,), alpha_init))

    def forward(self) -> Values:
        follow(self, self.parts[0])
        return {**self.parts[0].forward(), "alpha": self.alpha.clone()}

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        def inside_layer(index: int, layer: nn.Module) -> AbstractContextManager[Any]:
            return self.family.decomposed_prefix(
                layer, self.rows.prefix, lambda *parts: self._smooth(parts, values["alpha"][index])
            )

        return replace(
            self.parts[0].contribute(values, batch_size=batch_size),
            inside_layer=inside_layer,
            changes_attention=True,
        )

    def _smooth(self, parts: tuple[Tensor, ...], alpha: Tensor) -> Tensor:
        query_BSHE, key_BPHE, value_BPHE = parts
        return alpha * smoothed(
            query_BSHE,
            key_BPHE,
            value_BPHE,
            kernel=self.kernel,
            lengthscale=self.lengthscale,
        )

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        return dict(parameters)
