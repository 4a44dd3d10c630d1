"""Kernel-decomposed prefix: trained keys and values with a normaliser of their own, beside the
text's softmax.

    out_i = softmax attention over the text   +   alpha * sum_p K'(q_i, k_p) v_p / sum_p K'(q_i,
    k_p)

Ordinary softmax over cat(prefix, text) is the same sum with alpha replaced by an input-dependent
Z_prefix / Z_text, and the text's part scaled by the rest. K' is exp, RBF or polynomial; the query
is the projected one before any rotary rotation (a prefix key has no position). The text keeps the
positions that prefix-tuning gives it.
Shapes: B batch, S rows, P prefix, L layers, H heads, E head size, K key/value width.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values
from components.backbones.family import AttentionSizes, BackboneFamily, Rows


class KernelPrefix(nn.Module):
    """Keys, values and alpha of every layer."""

    def __init__(
        self,
        *,
        prefix_length: int,
        kernel: str,
        lengthscale: float,
        alpha_init: float,
        init_std: float,
        num_layers: int,
        sizes: AttentionSizes,
        dropout: float,
        family: BackboneFamily,
    ) -> None:
        super().__init__()
        self.sizes, self.family = sizes, family
        self.kernel, self.lengthscale = kernel, lengthscale
        self.rows = Rows(offset=prefix_length)
        self.trained_in_backbone = family.trained_with_prefix
        self.dropout = nn.Dropout(dropout)
        shape = (num_layers, prefix_length, sizes.key_value_heads * sizes.head_size)
        self.prefix_key = nn.Parameter(torch.randn(shape) * init_std)
        self.prefix_value = nn.Parameter(torch.randn(shape) * init_std)
        self.alpha = nn.Parameter(torch.full((num_layers,), alpha_init))

    def forward(self) -> Values:
        return {
            "prefix_key": self.prefix_key.clone(),
            "prefix_value": self.prefix_value.clone(),
            "alpha": self.alpha.clone(),
        }

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        key_LBPHE, value_LBPHE = (
            self._by_head(values[name], batch_size) for name in ("prefix_key", "prefix_value")
        )

        def inside_layer(index: int, layer: nn.Module) -> AbstractContextManager[Any]:
            return self.family.added_to_attention(
                layer,
                lambda query_BSHE: self._smooth(
                    query_BSHE, key_LBPHE[index], value_LBPHE[index], values["alpha"][index]
                ),
            )

        return Contribution(inside_layer=inside_layer, changes_attention=True)

    def _by_head(self, prefix_LPK: Tensor, batch_size: int) -> Tensor:
        drawn_LBPK = self.dropout(prefix_LPK[:, None].expand(-1, batch_size, -1, -1))
        shared_LBPHE: Tensor = drawn_LBPK.unflatten(
            -1, (self.sizes.key_value_heads, self.sizes.head_size)
        )
        return shared_LBPHE.repeat_interleave(self.sizes.heads // self.sizes.key_value_heads, dim=3)

    def _smooth(
        self, query_BSHE: Tensor, key_BPHE: Tensor, value_BPHE: Tensor, alpha: Tensor
    ) -> Tensor:
        return alpha * smoothed(
            query_BSHE,
            key_BPHE,
            value_BPHE,
            kernel=self.kernel,
            lengthscale=self.lengthscale,
        )

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        return dict(parameters)


def smoothed(
    query_BSHE: Tensor, key_BPHE: Tensor, value_BPHE: Tensor, *, kernel: str, lengthscale: float
) -> Tensor:
    """sum_p K'(q, k_p) v_p / sum_p K'(q, k_p), (B, S, H, E), in float32."""
    weights_BHSP = kernel_weights(
        query_BSHE.float(), key_BPHE.float(), kernel=kernel, lengthscale=lengthscale
    )
    return torch.einsum("bhsp,bphe->bshe", weights_BHSP, value_BPHE.float())


def kernel_weights(
    query_BSHE: Tensor, key_BPHE: Tensor, *, kernel: str, lengthscale: float
) -> Tensor:
    """K'(q, k) over its sum over the prefix, (B, H, S, P)."""
    products_BHSP = torch.einsum("bshe,bphe->bhsp", query_BSHE, key_BPHE)
    scale = math.sqrt(query_BSHE.shape[-1])
    if kernel == "exp":
        return torch.softmax(products_BHSP / scale, dim=-1)
    if kernel == "rbf":
        # |q - k|^2 = |q|^2 - 2 q.k + |k|^2, and |q|^2 cancels in the quotient.
        squares_BH1P = key_BPHE.square().sum(-1).transpose(1, 2)[:, :, None]
        return torch.softmax((2 * products_BHSP - squares_BH1P) / (2 * lengthscale**2), dim=-1)
    weights_BHSP = (products_BHSP / scale + 1.0).square()
    return weights_BHSP / weights_BHSP.sum(dim=-1, keepdim=True).clamp(min=1e-12)
