"""The released reparametrisation of a prefix: Embedding(P, D) -> Linear(D, R) -> Tanh -> Linear(R,
W). Only its result is kept after training.

Shapes: P prefix, D hidden, R hidden width of the network, W scalars of one prefix position over all
layers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MlpReparametrization(nn.Module):
    """Calling it gives (P, W)."""

    def __init__(
        self, *, prefix_length: int, hidden_size: int, width: int, out_width: int, init_std: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(prefix_length, hidden_size) * init_std)
        self.down = nn.Linear(hidden_size, width)
        self.up = nn.Linear(width, out_width)

    def forward(self) -> Tensor:
        flat_PW: Tensor = self.up(torch.tanh(self.down(self.embedding)))
        return flat_PW


def materialise(parameters: Mapping[str, Tensor], name: str) -> Tensor:
    """The result (P, W) of the network whose parameters are called `<name>.embedding`,
    `<name>.down.weight`, ...
    """
    linear = nn.functional.linear
    hidden_PR = torch.tanh(
        linear(
            parameters[f"{name}.embedding"],
            parameters[f"{name}.down.weight"],
            parameters[f"{name}.down.bias"],
        )
    )
    return linear(hidden_PR, parameters[f"{name}.up.weight"], parameters[f"{name}.up.bias"])
