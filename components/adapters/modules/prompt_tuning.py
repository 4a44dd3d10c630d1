"""Prompt-tuning: P trained embeddings before the text, at the first layer only.

They stand where a word's embedding stands: position and type embeddings and the layer norm follow,
and in Longformer the rows are global, as the rows of prefix-propagation are.
Shapes: B batch, P prefix, D hidden.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values
from components.backbones.family import Rows


class PromptTuning(nn.Module):
    """The trained embeddings."""

    def __init__(
        self, *, prefix_length: int, hidden_size: int, init_std: float, dropout: float
    ) -> None:
        super().__init__()
        self.rows = Rows(prefix=prefix_length, offset=prefix_length)
        self.trained_in_backbone: tuple[str, ...] = ()
        self.dropout = nn.Dropout(dropout)
        self.prompt = nn.Parameter(torch.randn(prefix_length, hidden_size) * init_std)

    def forward(self) -> Values:
        return {"prompt": self.prompt.clone()}

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        return Contribution(prompt_BPD=self.dropout(values["prompt"].expand(batch_size, -1, -1)))

    def start_from(self, rows_PD: Tensor) -> None:
        """See StartsFromRows."""
        with torch.no_grad():
            self.prompt.copy_(rows_PD)

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        return dict(parameters)
