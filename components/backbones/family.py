"""What every backbone family answers, so that adapters, data checks and the planner need not know the model class.

Shapes: B batch, P prefix, T text tokens, S = P + T, D hidden. The prefix always fills rows 0..P-1 of the hidden states, whatever the padding side of the text.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class BackboneFamily(Protocol):
    """One family of stock transformers base models."""

    name: str
    model_types: tuple[str, ...]
    """`config.model_type` values that this family reads."""
    trained_with_prefix: tuple[str, ...]
    """Backbone parameters that the method trains beside prefix and head."""

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        """The layers before each of which the prefix is added, in order; each takes the hidden states as its first argument."""

    def prefixed_inputs(self, backbone: "nn.Module", input_ids_BT: "Tensor", attention_mask_BT: "Tensor", prefix_length: int) -> dict[str, Any]:
        """Keyword arguments of the backbone's forward for P prefix rows (zero embeddings) before the text."""

    def check_positions(self, config: Mapping[str, Any], *, max_tokens: int, prefix_length: int) -> None:
        """Raise BackboneError where text and prefix together need more positions than the backbone has."""

    def check_supported(self, config: Mapping[str, Any]) -> None:
        """Raise BackboneError for a variant of the family that would compute something else than the method says."""

    def accelerate(self, backbone: "nn.Module") -> None:
        """Switch on the fastest exact attention of the family on this machine, in place."""
