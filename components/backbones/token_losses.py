"""Cross-entropy of next tokens under a frozen output embedding, rows by rows: the logits of a whole
sequence, rows x vocabulary, never stand.

The fact a newcomer gets wrong: with a frozen weight the gradient of a row's loss is known as soon
as the loss is, so that nothing but it (rows x hidden) is kept for the backward pass, and no logits
are computed twice. torch's own `linear_cross_entropy` knows no cap.
Shapes: R rows, V tokens of the vocabulary, D hidden.
"""

from typing import Any

import torch
from torch import Tensor

from components.backbones import layer_memory
from components.backbones.output_embedding import formed


def token_losses(
    hidden_RD: Tensor,
    weight_VD: Tensor,
    targets_R: Tensor,
    *,
    bias_V: Tensor | None = None,
    scale: float = 1.0,
    cap: float | None = None,
) -> Tensor:
    """-log p of each target (R,), float32; weight and bias get no gradient. Products are in the
    weight's numbers, everything behind them in float32.
    """
    losses_R: Tensor = _TokenLosses.apply(  # type: ignore[no-untyped-call]
        hidden_RD, weight_VD, targets_R, bias_V, scale, cap
    )
    return losses_R


class _TokenLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_RD: Tensor,
        weight_VD: Tensor,
        targets_R: Tensor,
        bias_V: Tensor | None,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        learns = ctx.needs_input_grad[0]
        rows = max(1, layer_memory.LOGITS_AT_ONCE // len(weight_VD))
        losses, gradients = [], []
        for some_RD, targets in zip(hidden_RD.split(rows), targets_R.split(rows), strict=True):
            logits_RV = _logits(some_RD, weight_VD, bias_V, scale, cap)
            total_R1 = torch.logsumexp(logits_RV, dim=1, keepdim=True)
            losses.append((total_R1 - logits_RV.gather(1, targets[:, None])).squeeze(1))
            if learns:
                slope_RV = torch.exp(logits_RV - total_R1)
                slope_RV.scatter_add_(1, targets[:, None], -torch.ones_like(total_R1))
                if cap is not None:
                    slope_RV *= 1 - (logits_RV / cap) ** 2
                gradients.append((scale * slope_RV).to(weight_VD.dtype) @ weight_VD)
        if learns:
            ctx.save_for_backward(torch.cat(gradients).to(hidden_RD.dtype))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, gradient_R: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (slope_RD,) = ctx.saved_tensors
        return (slope_RD * gradient_R[:, None].to(slope_RD.dtype), None, None, None, None, None)


def _logits(
    hidden_RD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, scale: float, cap: float | None
) -> Tensor:
    products_RV = torch.nn.functional.linear(hidden_RD.to(weight_VD.dtype), weight_VD, bias_V)
    return formed(products_RV.float(), scale=scale, cap=cap)
