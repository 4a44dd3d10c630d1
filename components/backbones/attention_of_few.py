"""Softmax attention of few rows to a text's many keys and values, which need no gradient, and to
their own, which do.

The fact a newcomer gets wrong: with so few queries nearly all time goes into memory, above all into
new tensors of scores, whose pages are fresh each time. So one is made forward and one backward, and
everything else happens in them; autograd's own formulas make eight, and a kernel's backward pass
computes gradients for the text too.
Shapes: B documents, A adapters that read them, N = A B sequences of rows, T text tokens, P rows, K
key/value heads, G queries of a row for each, Q = G P, R = A Q, E head size.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from components.backbones.layer_memory import LARGEST_PIECE

LOG2E = math.log2(math.e)


def attention_of_few(
    query_NKQE: Tensor,
    text: tuple[Tensor, Tensor],
    rows: tuple[Tensor, Tensor],
    mask: Tensor,
    *,
    adapters: int,
    text_stays: bool = True,
) -> Tensor:
    """Mixed values (N, K, Q, E) of queries that are scaled already.

    `text`, `rows`: keys and values, (B, K, T, E) and (N, K, P, E), in the queries' dtype; `mask`
    (N, 1, 1 or P, T + P) is added to the scores: 0 where a key is seen, else the least number.
    `text_stays`: False where the text shall not be kept for the backward pass, which then needs
    the sums over it that _sums makes, E times the work.
    """
    mixed: Tensor = _AttentionOfFew.apply(query_NKQE, *text, *rows, mask, adapters, text_stays)  # type: ignore[no-untyped-call]
    return mixed


class _AttentionOfFew(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        query_NKQE: Tensor,
        key_BKTE: Tensor,
        value_BKTE: Tensor,
        key_NKPE: Tensor,
        value_NKPE: Tensor,
        mask: Tensor,
        adapters: int,
        text_stays: bool,
    ) -> Tensor:
        tokens, count = key_BKTE.shape[2], key_NKPE.shape[2]
        text_BKRT = (together(query_NKQE, adapters) @ key_BKTE.transpose(-1, -2)).float()
        of_text = mask[..., :tokens].unflatten(0, (adapters, -1)).movedim(0, 2).unsqueeze(3)
        text_BKRT.unflatten(2, (adapters, -1, count)).add_(of_text)
        rows_NKQP = (query_NKQE @ key_NKPE.transpose(-1, -2)).float()
        rows_NKQP.unflatten(2, (-1, count)).add_(mask[:, :, None, :, tokens:])
        most_NKQ1 = apart(text_BKRT.amax(dim=-1, keepdim=True), adapters)
        most_NKQ1 = torch.maximum(most_NKQ1, rows_NKQP.amax(dim=-1, keepdim=True))
        # exp takes up to 12 ns a number where its result underflows, exp2 0.1.
        text_BKRT.sub_(together(most_NKQ1, adapters)).mul_(LOG2E).exp2_()
        rows_NKQP.sub_(most_NKQ1).mul_(LOG2E).exp2_()
        total_NKQ1 = apart(text_BKRT.sum(dim=-1, keepdim=True), adapters)
        total_NKQ1 = total_NKQ1 + rows_NKQP.sum(dim=-1, keepdim=True)
        mixed_NKQE = apart(text_BKRT.to(value_BKTE.dtype) @ value_BKTE, adapters).float()
        mixed_NKQE += rows_NKQP.to(value_NKPE.dtype) @ value_NKPE
        mixed_NKQE /= total_NKQ1
        if any(ctx.needs_input_grad):
            kept = (query_NKQE, key_NKPE, value_NKPE, rows_NKQP, total_NKQ1, mixed_NKQE)
            of_text = (text_BKRT, key_BKTE, value_BKTE)
            ctx.save_for_backward(*kept, *(of_text if text_stays else _sums(*of_text)))
        ctx.adapters, ctx.text_stays = adapters, text_stays
        return mixed_NKQE.to(query_NKQE.dtype)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient_NKQE: Tensor) -> Any:  # type: ignore[override]
        """Weights are those of forward over their total: exp2 of scores is what was kept."""
        query_NKQE, key_NKPE, value_NKPE, rows_NKQP, total_NKQ1, mixed_NKQE, *of_text = (
            ctx.saved_tensors
        )
        dtype, adapters = query_NKQE.dtype, ctx.adapters
        whole_NKQE = gradient_NKQE.float() / total_NKQ1
        shared_NKQ1 = (whole_NKQE * mixed_NKQE).sum(dim=-1, keepdim=True)
        own_NKQE = whole_NKQE.to(dtype)
        of_value_NKPE = rows_NKQP.to(dtype).transpose(-1, -2) @ own_NKQE
        of_rows_NKQP = (own_NKQE @ value_NKPE.transpose(-1, -2)).float()
        of_rows_NKQP = of_rows_NKQP.sub_(shared_NKQ1).mul_(rows_NKQP).to(dtype)
        through_text = _through_text if ctx.text_stays else _through_sums
        of_query_BKRE = through_text(
            together(own_NKQE, adapters), together(shared_NKQ1, adapters), *of_text
        )
        of_query_NKQE = apart(of_query_BKRE, adapters) + of_rows_NKQP @ key_NKPE
        of_key_NKPE = of_rows_NKQP.transpose(-1, -2) @ query_NKQE
        return of_query_NKQE, None, None, of_key_NKPE, of_value_NKPE, None, None, None


def _through_text(
    own_BKRE: Tensor, shared_BKR1: Tensor, text_BKRT: Tensor, key_BKTE: Tensor, value_BKTE: Tensor
) -> Tensor:
    """The queries' gradient: sum over t of weight_t (own . value_t - shared) key_t."""
    score_BKRT = (own_BKRE @ value_BKTE.transpose(-1, -2)).float()
    score_BKRT.sub_(shared_BKR1).mul_(text_BKRT)
    return score_BKRT.to(key_BKTE.dtype) @ key_BKTE


def _sums(text_BKRT: Tensor, key_BKTE: Tensor, value_BKTE: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over t of weight_t key_t, (B, K, R, E), and of weight_t value_t key_t', (B, K, R, E, E):
    all that the gradient needs of the text, float32.
    """
    dtype, (batch, heads, count, tokens) = key_BKTE.dtype, text_BKRT.shape
    size = key_BKTE.shape[-1]
    key_BKRE = (text_BKRT.to(dtype) @ key_BKTE).float()
    outer = key_BKRE.new_zeros(batch, heads, size, count * size)
    step = min(tokens, max(1, LARGEST_PIECE // (batch * heads * count * size)))
    piece_BKTRE = key_BKTE.new_empty(batch, heads, step, count, size)
    for start in range(0, tokens, step):
        place = slice(start, min(start + step, tokens))
        weight_BKTR1 = text_BKRT[..., place].to(dtype).transpose(-1, -2)[..., None]
        weighed = piece_BKTRE[:, :, : place.stop - start]
        torch.mul(weight_BKTR1, key_BKTE[:, :, place, None], out=weighed)
        outer += value_BKTE[:, :, place].transpose(-1, -2) @ weighed.flatten(3)
    return key_BKRE, outer.unflatten(3, (count, size)).movedim(2, 3)


def _through_sums(
    own_BKRE: Tensor, shared_BKR1: Tensor, key_BKRE: Tensor, outer_BKREE: Tensor
) -> Tensor:
    """The same by the sums."""
    through_BKRE = (own_BKRE.float()[..., None, :] @ outer_BKREE).squeeze(-2)
    return (through_BKRE - shared_BKR1 * key_BKRE).to(own_BKRE.dtype)


def together(values_NXQY: Tensor, adapters: int) -> Tensor:
    """(A B, X, Q, Y) -> (B, X, A Q, Y)."""
    if adapters == 1:
        return values_NXQY
    return values_NXQY.unflatten(0, (adapters, -1)).permute(1, 2, 0, 3, 4).flatten(2, 3)


def apart(values_BXRY: Tensor, adapters: int) -> Tensor:
    """(B, X, A Q, Y) -> (A B, X, Q, Y)."""
    if adapters == 1:
        return values_BXRY
    return values_BXRY.unflatten(2, (adapters, -1)).permute(2, 0, 1, 3, 4).flatten(0, 1)
