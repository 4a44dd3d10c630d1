"""A frozen feed-forward part computed in pieces of a sequence, each recomputed in the backward
pass: what is kept is its input, what is alive at once is one piece.

The fact a newcomer gets wrong: gradient checkpointing does not bound this. When a checkpointed
layer is recomputed, all of its feed-forward part's intermediate results (3 numbers of its width per
row in a gated one) are alive together. The price is one more forward pass of that part.
Shapes: B batch, S rows, D hidden.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

ROWS, LEAST = "tiled_rows", "least_pieces"


def tile_feed_forward(module: nn.Module, rows: int, *, least_pieces: int = 1) -> None:
    """Compute a module that works row by row, (B, S, D) -> (B, S, D), in pieces of `rows` rows, in
    `least_pieces` at least, empty ones among them: ranks of ZeRO-3 must call modules equally often,
    however long their documents are. Raises ValueError where it has a trained weight: its gradient
    would need all rows.
    """
    if rows < 1:
        raise ValueError(f"a piece has at least one row, not {rows}")
    if any(parameter.requires_grad for parameter in module.parameters()):
        raise ValueError("only a frozen feed-forward part is tiled: one of its weights is trained")
    module.__dict__[ROWS], module.__dict__[LEAST] = rows, least_pieces
    module.forward = MethodType(_forward, module)  # follows its module into a deep copy


def untile_feed_forward(module: nn.Module) -> None:
    """Give the module its stock forward back."""
    module.__dict__.pop("forward", None)
    module.__dict__.pop(ROWS, None)
    module.__dict__.pop(LEAST, None)


def _forward(module: Any, hidden_states: Tensor) -> Tensor:
    stock, rows = type(module).forward, module.__dict__[ROWS]
    least = module.__dict__[LEAST]
    if hidden_states.shape[1] <= rows and least == 1:
        whole: Tensor = stock(module, hidden_states)
        return whole
    pieces = hidden_states.split(rows, dim=1)
    pieces += (hidden_states[:, :0],) * (least - len(pieces))
    if not (torch.is_grad_enabled() and hidden_states.requires_grad):
        return torch.cat([stock(module, piece) for piece in pieces], dim=1)
    # Some have dropout (ModernBERT, StarCoder2): the state of the generators is kept.
    return torch.cat(
        [checkpoint(stock, module, piece, use_reentrant=False) for piece in pieces], dim=1
    )
