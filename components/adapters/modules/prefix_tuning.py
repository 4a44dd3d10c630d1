"""Prefix-tuning (P-tuning v2): trained keys and values that every row of every layer sees, in local
and in global attention.

They stand in P extra rows before the text whose own states nobody reads: the family puts the
trained keys and values in the places of those rows', and each row counts them once, in one softmax
with the text. So every attention implementation of the family serves, the fast one too; the extra
rows cost P / (P + T) of a layer.
Shapes: B batch, P prefix, L layers, K key/value width (heads x head size; smaller than D with
grouped-query attention).
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values
from components.adapters.modules.reparametrization import MlpReparametrization, materialise
from components.backbones import family_of
from components.backbones.family import BackboneFamily, Rows


class PrefixTuning(nn.Module):
    """Keys and values of every layer; with `gated`, a trained factor per layer and position on
    both, 1 at the start.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        prefix_length: int,
        hidden_size: int,
        key_value_width: int,
        init_std: float,
        dropout: float,
        family: BackboneFamily,
        released_indexing: bool = False,
        reparametrization_hidden: int | None = None,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.num_layers, self.family, self.released_indexing = num_layers, family, released_indexing
        self.rows = Rows(key_value=prefix_length, offset=prefix_length)
        self.trained_in_backbone = family.trained_with_prefix
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Parameter(torch.ones(num_layers, prefix_length)) if gated else None
        self.key_value_reparametrization: MlpReparametrization | None = None
        if reparametrization_hidden is None:
            shape = (num_layers, prefix_length, key_value_width)
            self.prefix_key = nn.Parameter(torch.randn(shape) * init_std)
            self.prefix_value = nn.Parameter(torch.randn(shape) * init_std)
        else:
            self.key_value_reparametrization = MlpReparametrization(
                prefix_length=prefix_length,
                hidden_size=hidden_size,
                width=reparametrization_hidden,
                out_width=2 * num_layers * key_value_width,
                init_std=init_std,
            )

    def forward(self) -> Values:
        gate = {} if self.gate is None else {"gate": self.gate.clone()}
        if self.key_value_reparametrization is not None:
            return {**_by_layer(self.key_value_reparametrization(), self.num_layers), **gate}
        return {
            "prefix_key": self.prefix_key.clone(),
            "prefix_value": self.prefix_value.clone(),
            **gate,
        }

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        key_LBPK, value_LBPK = (
            self._drawn(values, name, batch_size) for name in ("prefix_key", "prefix_value")
        )

        def inside_layer(index: int, layer: nn.Module) -> AbstractContextManager[Any]:
            return _placed(
                self.family, layer, key_LBPK[index], value_LBPK[index], self.released_indexing
            )

        return Contribution(
            inside_layer=inside_layer,
            changes_attention=self.released_indexing,
            key_value_LBPK=(key_LBPK, value_LBPK),
        )

    def _drawn(self, values: Mapping[str, Tensor], name: str, batch_size: int) -> Tensor:
        prefix_LPK = values[name] * values["gate"][..., None] if "gate" in values else values[name]
        drawn_LBPK: Tensor = self.dropout(prefix_LPK[:, None].expand(-1, batch_size, -1, -1))
        return drawn_LBPK

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        if self.key_value_reparametrization is None:
            return dict(parameters)
        return _by_layer(materialise(parameters, "key_value_reparametrization"), self.num_layers)


@contextmanager
def _placed(
    family: BackboneFamily,
    layer: nn.Module,
    key_BPK: Tensor,
    value_BPK: Tensor,
    released_indexing: bool,
) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(family.replaced_keys_and_values(layer, key_BPK, value_BPK))
        if released_indexing:
            stack.enter_context(family.released_indexing(layer, key_BPK.shape[1]))
        yield


def _by_layer(flat_PW: Tensor, num_layers: int) -> Values:
    """(P, 2 * L * K), by layer and in it key before value, as in the release."""
    both_L2PK = flat_PW.unflatten(1, (num_layers, 2, -1)).permute(1, 2, 0, 3)
    return {"prefix_key": both_L2PK[:, 0], "prefix_value": both_L2PK[:, 1]}


def new_prefix_tuning(backbone: nn.Module, **settings: Any) -> PrefixTuning:
    """Fresh keys and values for this backbone; `settings` are those of PrefixTuning that the
    backbone does not tell.
    """
    family = family_of(backbone)
    sizes = family.attention_sizes(backbone)
    return PrefixTuning(
        num_layers=len(family.layers(backbone)),
        hidden_size=backbone.config.hidden_size,  # type: ignore[union-attr, arg-type]
        key_value_width=sizes.key_value_heads * sizes.head_size,
        family=family,
        **settings,
    )
