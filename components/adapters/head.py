"""Pooling and the classification head: out_proj(Dropout(tanh(dense(Dropout(h_t))))).

Shapes: B batch, P prefix, T text tokens, S = P + T, D hidden, C classes.
"""

import torch
from torch import Tensor, nn


class ClassificationHead(nn.Module):
    """D -> D -> C in float32, whatever the backbone's precision."""

    def __init__(self, *, hidden_size: int, num_labels: int, dropout: float, init_std: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, num_labels)
        for linear in (self.dense, self.out_proj):
            nn.init.normal_(linear.weight, std=init_std)
            nn.init.zeros_(linear.bias)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        hidden_BD = torch.tanh(self.dense(self.dropout(pooled_BD.float())))
        logits_BC: Tensor = self.out_proj(self.dropout(hidden_BD))
        return logits_BC


def pool(hidden_BSD: Tensor, attention_mask_BT: Tensor, *, prefix_length: int, pooling: str) -> Tensor:
    """One row per document: first prefix position, first text token, last text token, or the mean over text tokens (padding and prefix left out).

    Where there are no prefix rows, `prefix` is the first text token: the row that stands first, as in the paper's release.
    """
    if pooling == "prefix" and prefix_length:
        return hidden_BSD[:, 0]
    if pooling == "mean":
        # In float32: bf16 cannot count above 256 rows.
        weights_BT = attention_mask_BT.float()
        sums_BD = torch.einsum("btd,bt->bd", hidden_BSD[:, prefix_length:].float(), weights_BT)
        return sums_BD / weights_BT.sum(dim=1, keepdim=True).clamp(min=1)
    row_B = pooled_row(attention_mask_BT, prefix_length=prefix_length, pooling=pooling)
    assert row_B is not None, pooling
    return hidden_BSD[torch.arange(hidden_BSD.shape[0], device=hidden_BSD.device), row_B]


def pooled_row(attention_mask_BT: Tensor, *, prefix_length: int, pooling: str) -> Tensor | None:
    """The row (B,) of the hidden states that is classified; None where it takes more than one. A backbone that knows it need not compute the others in its last layer."""
    if pooling == "prefix" and prefix_length:
        return attention_mask_BT.new_zeros(attention_mask_BT.shape[0], dtype=torch.long)
    if pooling in ("cls", "prefix"):
        return prefix_length + attention_mask_BT.argmax(dim=1)
    if pooling == "last":
        return prefix_length + attention_mask_BT.shape[1] - 1 - attention_mask_BT.flip(1).argmax(dim=1)
    return None
