"""Prefix-propagation: h[:, :P] = h[:, :P] + Dropout(prefix_l) before every layer l (Li et al., ACL 2023, section 3).

Shapes: B batch, P prefix, S = P + T text, D hidden, L layers, R hidden width of the reparametrisation.
The fact a newcomer gets wrong: the addition is out of place. `h[:, :P] += ...` would corrupt what gradient checkpointing recomputes from.
"""

import torch
from torch import Tensor, nn

PREFIX_TENSOR = "adapter.prefix"


class PrefixPropagation(nn.Module):
    """The trainable prefix of every layer.

    Calling it gives prefix_LPD as a fresh tensor: under ZeRO-3 the parameter itself is whole only inside this call.
    """

    def __init__(self, *, num_layers: int, prefix_length: int, hidden_size: int, init_std: float, dropout: float, reparametrization_hidden: int | None) -> None:
        super().__init__()
        self.num_layers, self.prefix_length, self.hidden_size = num_layers, prefix_length, hidden_size
        self.dropout = nn.Dropout(dropout)
        self.reparametrization: MlpReparametrization | None = None
        if reparametrization_hidden is None:
            self.prefix = nn.Parameter(torch.randn(num_layers, prefix_length, hidden_size) * init_std)
        else:
            self.reparametrization = MlpReparametrization(num_layers, prefix_length, hidden_size, reparametrization_hidden, init_std)

    def forward(self) -> Tensor:
        if self.reparametrization is not None:
            prefix_LPD: Tensor = self.reparametrization()
            return prefix_LPD
        return self.prefix.clone()

    def add_to(self, hidden_BSD: Tensor, prefix_PD: Tensor) -> Tensor:
        """The hidden states with one layer's prefix added to their first P rows; dropout is drawn per example."""
        length = self.prefix_length
        prefix_BPD = self.dropout(prefix_PD.to(hidden_BSD.dtype).expand(hidden_BSD.shape[0], -1, -1))
        return torch.cat([hidden_BSD[:, :length] + prefix_BPD, hidden_BSD[:, length:]], dim=1)


class MlpReparametrization(nn.Module):
    """Embedding(P, D) -> Linear(D, R) -> Tanh -> Linear(R, L*D), as in the release; only the materialised prefix is kept after training."""

    def __init__(self, num_layers: int, prefix_length: int, hidden_size: int, width: int, init_std: float) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.embedding = nn.Parameter(torch.randn(prefix_length, hidden_size) * init_std)
        self.down = nn.Linear(hidden_size, width)
        self.up = nn.Linear(width, num_layers * hidden_size)

    def forward(self) -> Tensor:
        flat_P_LD: Tensor = self.up(torch.tanh(self.down(self.embedding)))
        return flat_P_LD.unflatten(1, (self.num_layers, -1)).transpose(0, 1)
