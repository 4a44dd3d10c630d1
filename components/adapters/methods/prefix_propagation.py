"""Prefix-propagation (Li et al., ACL 2023): trainable vectors added to the first P hidden states
before every layer.

A low-rank prefix is P_l = U_l V with one V for all layers. In a causal decoder the rows may stand
after the text (a suffix), where they see it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from components.adapters.methods.method import ReparametrizedPrefix, Setting, Shapes
from components.adapters.methods.prefix_start import PrefixStart
from components.backbones.layer_memory import Kept
from components.backbones.shape import BackboneShape
from components.settings import PositiveInt

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class PrefixPropagationConfig(PrefixStart, ReparametrizedPrefix):
    """Prefix-propagation (Li et al., ACL 2023): trainable vectors added to the first P hidden
    states before every layer.
    """

    length_tensors: ClassVar = ("prefix", "prefix_coefficients", "reparametrization.embedding")

    method: Literal["prefix_propagation"] = "prefix_propagation"
    rank: Annotated[PositiveInt, Field(le=65_536)] | None = None
    """Rank r of a low-rank prefix, P_l = U_l V with U_l (P, r) for each layer and one V (r, D): L P
    r + r D parameters in place of L P D. Null: a full one.
    """
    placement: Literal["prefix", "suffix", "one_way"] = "prefix"
    """`suffix`, for causal decoders: P positions after the document, which see it; head.pooling
    last then classifies the last of them. `one_way`, for encoders and Longformer: P positions that
    see the document and that the document does not see. With either the document is read without
    gradients, at about a third of a step's work.
    """

    @property
    def trains_with_prefix(self) -> bool:  # type: ignore[override]
        """What is trained in the backbone would change the text, whose states are to stay."""
        return self.placement == "prefix"

    @property
    def text_is_read_apart(self) -> bool:
        return self.placement != "prefix"

    @model_validator(mode="after")
    def _one_form(self) -> "PrefixPropagationConfig":
        if self.rank is not None and self.reparametrization != "none":
            raise ValueError(
                "rank and reparametrization are two ways to produce a prefix; remove one"
            )
        if self.init != "normal" and (self.rank is not None or self.reparametrization != "none"):
            produced = "rank" if self.rank is not None else "reparametrization"
            raise ValueError(
                f"init {self.init} sets the rows of a prefix, and with {produced} they are "
                f"produced from other numbers; remove {produced}, or set init to normal"
            )
        return self

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.prefix_propagation import new_propagation

        return new_propagation(
            backbone,
            prefix_length=self.prefix_length,
            init_std=self.init_std if self.init == "normal" else 0.0,
            dropout=self.own_dropout(dropout),
            reparametrization_hidden=self.network_width,
            rank=self.rank,
            suffix=self.placement != "prefix",
        )

    def trained_parameters(self, shape: BackboneShape) -> int:
        if self.rank is not None:
            return self.rank * (shape.layers * self.prefix_length + shape.hidden)
        return self.produced(shape.hidden, shape.layers * shape.hidden)

    def kept(self, shape: BackboneShape) -> Kept:
        if self.text_is_read_apart:
            return Kept(rows=self.prefix_length, text_apart=True)
        return super().kept(shape)

    def incompatibility(self, setting: Setting) -> str | None:
        if self.placement == "prefix":
            return None
        sees_text = setting.family.rows_see_all_text
        if (self.placement == "one_way") is not sees_text:
            is_for, other = ("causal decoders", "one_way") if sees_text else ("encoders", "suffix")
            return (
                f"adapter.placement {self.placement} is for {is_for}; use {other} in a "
                f"{setting.family.name}"
            )
        poolings = ("prefix", "last") if sees_text else ("last",)
        if setting.pooling is None:
            return f"adapter.placement {self.placement} is for classification; use prefix"
        if setting.pooling not in poolings:
            return (
                f"head.pooling {setting.pooling} reads rows that cannot see a suffix, which would "
                f"train nothing; use {' or '.join(poolings)} with adapter.placement "
                f"{self.placement}"
            )
        return None

    @classmethod
    def completed(cls, stored: Mapping[str, Any], shapes: Shapes) -> dict[str, Any]:
        found = super().completed(stored, shapes)
        if "rank" not in found and "prefix_coefficients" in shapes:
            found["rank"] = shapes["prefix_coefficients"][-1]
        return found
