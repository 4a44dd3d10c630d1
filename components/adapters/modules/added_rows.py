"""A few rows added to hidden states, out of place: one copy forward and none backward.

The fact a newcomer gets wrong: torch.cat of three slices costs a copy forward, and backward three
tensors of the full size for the slices and two sums of them; this hands the gradient through as it
is. In place it would corrupt what gradient checkpointing recomputes from.
Shapes: B batch, P added rows, S rows, D hidden.
"""

from typing import Any

import torch
from torch import Tensor


def add_rows(hidden_BSD: Tensor, added_BPD: Tensor, first: int) -> Tensor:
    """hidden_BSD with `added_BPD` on top of P consecutive rows, from row `first` on."""
    total_BSD: Tensor = _AddRows.apply(hidden_BSD, added_BPD, first)
    return total_BSD


class _AddRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_BSD: Tensor, added_BPD: Tensor, first: int) -> Tensor:
        ctx.place = (slice(None), slice(first, first + added_BPD.shape[1]))
        total_BSD = hidden_BSD.clone()
        total_BSD[ctx.place] = hidden_BSD[ctx.place] + added_BPD
        return total_BSD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad_BSD,) = grads
        # A copy of the few rows, so that what is kept of them does not keep all.
        return grad_BSD, grad_BSD[ctx.place].clone() if ctx.needs_input_grad[1] else None, None
