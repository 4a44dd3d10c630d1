"""The seam of heads: what the hidden states of the last layer are turned into.

Shapes: B batch, T text tokens, S all rows, D hidden, R rows of the hidden states that a head reads.
"""

from collections.abc import Iterator
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from components.backbones.family import Rows


@runtime_checkable
class Head(Protocol):
    """A torch module with everything that a task trains beside the adapter. Its parameters leave it
    by calls of the modules that own them (ZeRO-3 gathers around the call).
    """

    def to(self, device: torch.device) -> Self:
        """As of every torch module."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of every torch module."""

    def text(
        self, backbone: nn.Module, input_ids_BT: Tensor, attention_mask_BT: Tensor
    ) -> dict[str, Tensor]:
        """What the task changes about the text before the first layer: `embeddings_BTD` and
        `global_BT` of BackboneFamily.prefixed_inputs; empty for nothing.
        """

    def read_rows(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor, *, rows: Rows
    ) -> Tensor | None:
        """The rows (B, R) of the hidden states (B, S, D) that are read; None where it takes all. A
        backbone that knows them need not compute the others in its last layer.
        """

    def logits(
        self,
        hidden_BSD: Tensor,
        input_ids_BT: Tensor,
        attention_mask_BT: Tensor,
        *,
        rows: Rows,
        example_index: Tensor | None,
    ) -> Tensor:
        """Logits in float32, one row per example. `example_index` (B,): to which example each
        sequence belongs; None: each is one.
        """
