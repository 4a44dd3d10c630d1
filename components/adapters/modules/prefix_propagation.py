"""Prefix-propagation: h[:, :P] = h[:, :P] + Dropout(prefix_l) before every layer l (Li et al., ACL
2023, section 3).

Shapes: B batch, P prefix, S = P + text rows, D hidden, L layers, R rank.
A low-rank prefix is P_l = U_l V with one V for all layers. In a causal decoder the rows may stand
after the text (a suffix), where they see it. The fact a newcomer gets wrong: the addition is out of
place (added_rows.py). `h[:, :P] += ...` would corrupt what gradient checkpointing recomputes from.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values
from components.adapters.modules.added_rows import add_rows
from components.adapters.modules.reparametrization import MlpReparametrization, materialise
from components.backbones import family_of
from components.backbones.family import Rows


class PrefixPropagation(nn.Module):
    """The trainable prefix of every layer; with `gated`, a trained factor per layer and position, 1
    at the start.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        prefix_length: int,
        hidden_size: int,
        init_std: float,
        dropout: float,
        reparametrization_hidden: int | None = None,
        rank: int | None = None,
        suffix: bool = False,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.num_layers, self.low_rank = num_layers, rank is not None
        self.rows = (
            Rows(suffix=prefix_length)
            if suffix
            else Rows(prefix=prefix_length, offset=prefix_length)
        )
        self.trained_in_backbone: tuple[str, ...] = ()
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Parameter(torch.ones(num_layers, prefix_length)) if gated else None
        self.reparametrization: MlpReparametrization | None = None
        if rank is not None:
            # Entries of U_l V then have the standard deviation init_std.
            self.prefix_coefficients = nn.Parameter(
                torch.randn(num_layers, prefix_length, rank) * init_std
            )
            self.prefix_basis = nn.Parameter(torch.randn(rank, hidden_size) * rank**-0.5)
        elif reparametrization_hidden is None:
            self.prefix = nn.Parameter(
                torch.randn(num_layers, prefix_length, hidden_size) * init_std
            )
        else:
            self.reparametrization = MlpReparametrization(
                prefix_length=prefix_length,
                hidden_size=hidden_size,
                width=reparametrization_hidden,
                out_width=num_layers * hidden_size,
                init_std=init_std,
            )

    def forward(self) -> Values:
        gate = {} if self.gate is None else {"gate": self.gate.clone()}
        if self.reparametrization is not None:
            return {"prefix": _by_layer(self.reparametrization(), self.num_layers), **gate}
        if self.low_rank:
            return {"prefix": self.prefix_coefficients @ self.prefix_basis, **gate}
        return {"prefix": self.prefix.clone(), **gate}

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        prefix_LPD = values["prefix"]
        if "gate" in values:
            prefix_LPD = prefix_LPD * values["gate"][..., None]
        return Contribution(
            before_layer=lambda layer, hidden_BSD: self.add_to(hidden_BSD, prefix_LPD[layer])
        )

    def add_to(self, hidden_BSD: Tensor, prefix_PD: Tensor) -> Tensor:
        """The hidden states with one layer's prefix added to their prefix rows, or to the suffix
        rows, which run alone; dropout is drawn per example.
        """
        prefix_BPD = self.dropout(
            prefix_PD.to(hidden_BSD.dtype).expand(hidden_BSD.shape[0], -1, -1)
        )
        return add_rows(hidden_BSD, prefix_BPD, self.rows.key_value)

    def start_from(self, rows_PD: Tensor) -> None:
        """See StartsFromRows. Only of a prefix that is trained itself."""
        with torch.no_grad():
            self.prefix.zero_()
            self.prefix[0].copy_(rows_PD)

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        if self.reparametrization is None:
            return dict(parameters)
        return {"prefix": _by_layer(materialise(parameters, "reparametrization"), self.num_layers)}


def _by_layer(flat_PW: Tensor, num_layers: int) -> Tensor:
    return flat_PW.unflatten(1, (num_layers, -1)).transpose(0, 1)


def new_propagation(backbone: nn.Module, **settings: Any) -> PrefixPropagation:
    """A fresh prefix for this backbone; `settings` are those of PrefixPropagation that the backbone
    does not tell.
    """
    family = family_of(backbone)
    module = PrefixPropagation(
        num_layers=len(family.layers(backbone)),
        hidden_size=backbone.config.hidden_size,  # type: ignore[union-attr, arg-type]
        **settings,
    )
    if not module.rows.suffix:
        module.trained_in_backbone = family.trained_with_prefix
    return module
