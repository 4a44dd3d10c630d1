"""The classification head, out_proj(Dropout(tanh(dense(Dropout(h_t))))) or, linear,
out_proj(Dropout(h_t)), and pooling, for every head that reads one row.

Shapes: B batch, P prefix, T text tokens, S = P + T, D hidden, C classes, R rows of the hidden
states that a head reads.
"""

from typing import Any

import torch
from torch import Tensor, nn

from components.backbones.family import Rows
from components.tasks.classification import ClassificationHeadConfig
from components.tasks.task import HeadForm


class PooledHead(nn.Module):
    """A head whose forward makes the logits (B, C) of one row (B, D) of each document."""

    def __init__(self, *, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling

    def text(
        self, backbone: nn.Module, input_ids_BT: Tensor, attention_mask_BT: Tensor
    ) -> dict[str, Tensor]:
        return {}

    def read_rows(
        self, input_ids_BT: Tensor, attention_mask_BT: Tensor, *, rows: Rows
    ) -> Tensor | None:
        row_B = pooled_row(
            attention_mask_BT,
            prefix_length=rows.prefix,
            suffix_length=rows.suffix,
            pooling=self.pooling,
        )
        return None if row_B is None else row_B[:, None]

    def logits(
        self,
        hidden_BSD: Tensor,
        input_ids_BT: Tensor,
        attention_mask_BT: Tensor,
        *,
        rows: Rows,
        example_index: Tensor | None,
    ) -> Tensor:
        if example_index is not None:
            raise ValueError(
                "example_index joins the chunks of multiple-choice questions; a classified "
                "document is one sequence. Leave it out."
            )
        logits_BC: Tensor = self(
            pool(
                hidden_BSD,
                attention_mask_BT,
                prefix_length=rows.prefix,
                suffix_length=rows.suffix,
                pooling=self.pooling,
            )
        )
        return logits_BC


class ClassificationHead(PooledHead):
    """D -> D -> C, or D -> C with `form` linear, in float32, whatever the backbone's precision."""

    def __init__(
        self,
        *,
        hidden_size: int,
        num_labels: int,
        pooling: str,
        dropout: float,
        init_std: float,
        form: HeadForm = "mlp",
    ) -> None:
        super().__init__(pooling=pooling)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden_size, hidden_size) if form == "mlp" else None
        self.out_proj = nn.Linear(hidden_size, num_labels)
        for linear in (self.dense, self.out_proj):
            if linear is not None:
                nn.init.normal_(linear.weight, std=init_std)
                nn.init.zeros_(linear.bias)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        hidden_BD = self.dropout(pooled_BD.float())
        if self.dense is not None:
            hidden_BD = self.dropout(torch.tanh(self.dense(hidden_BD)))
        logits_BC: Tensor = self.out_proj(hidden_BD)
        return logits_BC


def build(config: ClassificationHeadConfig, backbone: Any, dropout: float) -> ClassificationHead:
    """A fresh head; `dropout` is the backbone's own, taken where the configuration names none."""
    return ClassificationHead(
        hidden_size=backbone.config.hidden_size,
        num_labels=config.num_labels,
        pooling=config.pooling,
        dropout=dropout if config.dropout is None else config.dropout,
        init_std=float(getattr(backbone.config, "initializer_range", 0.02)),
        form=config.form,
    )


def pool(
    hidden_BSD: Tensor,
    attention_mask_BT: Tensor,
    *,
    prefix_length: int,
    pooling: str,
    suffix_length: int = 0,
) -> Tensor:
    """One row per document: first prefix position, first text token, last text token, or the mean
    over text tokens (padding and prefix left out). Of rows behind the text `prefix` is the first
    and `last` the last.

    Where there are no prefix rows, `prefix` is the first text token: the row that stands first, as
    in the paper's release.
    """
    if pooling == "prefix" and prefix_length:
        return hidden_BSD[:, 0]
    if pooling == "mean":
        # In float32: bf16 cannot count above 256 rows.
        weights_BT = attention_mask_BT.float()
        sums_BD = torch.einsum(
            "btd,bt->bd",
            hidden_BSD[:, prefix_length : prefix_length + weights_BT.shape[1]].float(),
            weights_BT,
        )
        return sums_BD / weights_BT.sum(dim=1, keepdim=True).clamp(min=1)
    row_B = pooled_row(
        attention_mask_BT, prefix_length=prefix_length, suffix_length=suffix_length, pooling=pooling
    )
    assert row_B is not None, pooling
    return hidden_BSD[torch.arange(hidden_BSD.shape[0], device=hidden_BSD.device), row_B]


def pooled_row(
    attention_mask_BT: Tensor, *, prefix_length: int, pooling: str, suffix_length: int = 0
) -> Tensor | None:
    """The row (B,) of the hidden states that is classified; None where it takes more than one. A
    backbone that knows it need not compute the others in its last layer.
    """
    if pooling == "prefix" and prefix_length:
        return attention_mask_BT.new_zeros(attention_mask_BT.shape[0], dtype=torch.long)
    if pooling == "prefix" and suffix_length:
        return attention_mask_BT.sum(dim=1)
    if pooling in ("cls", "prefix"):
        return prefix_length + attention_mask_BT.argmax(dim=1)
    if pooling == "last" and suffix_length:
        return prefix_length + attention_mask_BT.sum(dim=1) + suffix_length - 1
    if pooling == "last":
        return (
            prefix_length + attention_mask_BT.shape[1] - 1 - attention_mask_BT.flip(1).argmax(dim=1)
        )
    return None
