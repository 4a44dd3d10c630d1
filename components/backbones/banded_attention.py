"""Local + global attention for local rows, block by block: exact, and bounded by matrix products instead of memory traffic.

Each block of query rows meets its window of keys and all global keys in one softmax. Scores live only in a buffer that fits the cache; the backward pass recomputes them from the
saved log-sum-exp instead of keeping probabilities, which is cheaper than reading them back and takes no memory. Heads are strided views of (S, D): nothing is transposed or copied.

Shapes: B batch, S rows, D hidden = H heads x E, G global keys, N global rows in the batch, Q query rows of a block, K keys of its window.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.backbones.attention_plan import AttentionPlan, ExamplePlan


def banded_attention(
    query_BSD: Tensor, key_BSD: Tensor, value_BSD: Tensor, global_output_ND: Tensor, *, plan: AttentionPlan, num_heads: int, dropout: float
) -> Tensor:
    """Attention output (B, S, D) of local rows, with the global rows' own output `global_output_ND` put in their places.

    `global_output_ND`: one row for each of `plan.global_places`, in that order. `dropout`: probability on attention weights, 0 in evaluation.
    Padding rows give zeros, take no gradient and give none.
    """
    output_BSD: Tensor = _BandedAttention.apply(query_BSD, key_BSD, value_BSD, global_output_ND, plan, num_heads, dropout)  # type: ignore[no-untyped-call]
    return output_BSD


class _BandedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_BSD: Tensor,
        key_BSD: Tensor,
        value_BSD: Tensor,
        global_output_ND: Tensor,
        plan: AttentionPlan,
        num_heads: int,
        dropout: float,
    ) -> Tensor:
        query_BSD, key_BSD, value_BSD = query_BSD.contiguous(), key_BSD.contiguous(), value_BSD.contiguous()
        seed = int(torch.randint(2**62, ())) if dropout > 0 else 0
        output_BSD = torch.zeros_like(query_BSD)
        lse_BHS = query_BSD.new_full((len(query_BSD), num_heads, query_BSD.shape[1]), float("inf"), dtype=softmax_dtype(query_BSD.dtype))
        with torch.autocast(query_BSD.device.type, enabled=False):
            drop = _Dropout(dropout, seed, query_BSD.device)
            for index, example in enumerate(plan.examples):
                query, key, value, output = (_heads(tensor[index], num_heads) for tensor in (query_BSD, key_BSD, value_BSD, output_BSD))
                _attend(query, key, value, example, drop=drop, output_HSE=output, lse_HS=lse_BHS[index])
        output_BSD[plan.global_places] = global_output_ND.to(output_BSD.dtype)
        ctx.save_for_backward(query_BSD, key_BSD, value_BSD, output_BSD, lse_BHS)
        ctx.plan, ctx.num_heads, ctx.dropout, ctx.seed = plan, num_heads, dropout, seed
        return output_BSD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query_BSD, key_BSD, value_BSD, output_BSD, lse_BHS = ctx.saved_tensors
        grad_BSD = grads[0].contiguous()
        num_heads, device = ctx.num_heads, grad_BSD.device
        results = tuple(torch.zeros_like(tensor) for tensor in (query_BSD, key_BSD, value_BSD))
        with torch.autocast(device.type, enabled=False):
            drop = _Dropout(ctx.dropout, ctx.seed, device)
            delta_BHS = (grad_BSD * output_BSD).unflatten(-1, (num_heads, -1)).sum(-1, dtype=lse_BHS.dtype).transpose(1, 2).contiguous()
            for index, example in enumerate(ctx.plan.examples):
                query, key, value, grad = (_heads(tensor[index], num_heads) for tensor in (query_BSD, key_BSD, value_BSD, grad_BSD))
                grad_query, grad_key, grad_value = (_heads(tensor[index], num_heads) for tensor in results)
                saved = _Saved(query, key, value, grad, lse_BHS[index], delta_BHS[index])
                _attend_backward(saved, example, drop=drop, grad_query_HSE=grad_query, grad_key_HSE=grad_key, grad_value_HSE=grad_value)
        return *results, grad_BSD[ctx.plan.global_places], None, None, None


@dataclass(frozen=True)
class _Saved:
    """What the backward pass of one example starts from."""

    query_HSE: Tensor
    key_HSE: Tensor
    value_HSE: Tensor
    grad_HSE: Tensor
    lse_HS: Tensor
    """Log of the sum of exp(scores); +inf in rows without a local result, so that their probabilities come out as 0."""
    delta_HS: Tensor
    """Gradient times output, summed over E: what softmax's backward subtracts."""


class _Dropout:
    """Multipliers 0 or 1/(1-p), the same sequence in the forward pass and in the backward pass."""

    def __init__(self, probability: float, seed: int, device: torch.device) -> None:
        self.keep = 1.0 - probability
        self.generator = torch.Generator(device=device).manual_seed(seed) if probability > 0 else None

    def multipliers(self, like: Tensor) -> Tensor | None:
        if self.generator is None:
            return None
        return torch.empty_like(like).bernoulli_(self.keep, generator=self.generator).div_(self.keep)


def softmax_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which softmax is computed: float32 for bf16 and fp16, as in the stock implementation."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _heads(tensor_SD: Tensor, num_heads: int) -> Tensor:
    return tensor_SD.unflatten(-1, (num_heads, -1)).transpose(0, 1)


def _attend(
    query_HSE: Tensor, key_HSE: Tensor, value_HSE: Tensor, example: ExamplePlan, *, drop: _Dropout, output_HSE: Tensor, lse_HS: Tensor
) -> None:
    """Fill in output and log-sum-exp of one example's local rows."""
    scale, buffer = _scale(query_HSE), _buffer(query_HSE, example)
    has_globals = len(example.global_rows) > 0
    if has_globals:
        global_key_HGE, global_value_HGE = key_HSE[:, example.global_rows], value_HSE[:, example.global_rows]
    for block in example.blocks:
        rows, keys = slice(block.query_start, block.query_end), slice(block.key_start, block.key_end)
        scores_HQK = _scores(query_HSE[:, rows], key_HSE[:, keys], block.bias_QK, scale=scale, buffer=buffer)
        largest_HQ1 = scores_HQK.amax(-1, keepdim=True).clamp_(min=torch.finfo(scores_HQK.dtype).min)
        if has_globals:
            global_scores_HQG = _product(query_HSE[:, rows], global_key_HGE.mT, scores_HQK.dtype).mul_(scale)
            largest_HQ1 = torch.maximum(largest_HQ1, global_scores_HQG.amax(-1, keepdim=True))
        weights_HQK = scores_HQK.sub_(largest_HQ1).exp_()
        sum_HQ1 = weights_HQK.sum(-1, keepdim=True)
        output_HQE = _product(_dropped(weights_HQK, drop), value_HSE[:, keys], sum_HQ1.dtype)
        if has_globals:
            global_weights_HQG = global_scores_HQG.sub_(largest_HQ1).exp_()
            sum_HQ1 += global_weights_HQG.sum(-1, keepdim=True)
            output_HQE += _product(_dropped(global_weights_HQG, drop), global_value_HGE, sum_HQ1.dtype)
        output_HSE[:, rows] = output_HQE.div_(sum_HQ1)
        lse_HS[:, rows] = largest_HQ1.add_(sum_HQ1.log_())[..., 0]
    output_HSE[:, example.silent_rows] = 0.0
    lse_HS[:, example.silent_rows] = float("inf")


def _attend_backward(
    saved: _Saved, example: ExamplePlan, *, drop: _Dropout, grad_query_HSE: Tensor, grad_key_HSE: Tensor, grad_value_HSE: Tensor
) -> None:
    """Add one example's gradients to the three results."""
    scale = _scale(saved.query_HSE)
    weights_buffer, grads_buffer = _buffer(saved.query_HSE, example), _buffer(saved.query_HSE, example)
    global_rows = example.global_rows
    global_key_HGE, global_value_HGE = saved.key_HSE[:, global_rows], saved.value_HSE[:, global_rows]
    grad_global_key_HGE, grad_global_value_HGE = torch.zeros_like(global_key_HGE), torch.zeros_like(global_value_HGE)
    for block in example.blocks:
        rows, keys = slice(block.query_start, block.query_end), slice(block.key_start, block.key_end)
        piece = _Rows(saved.query_HSE[:, rows], saved.grad_HSE[:, rows], saved.lse_HS[:, rows, None], saved.delta_HS[:, rows, None], scale)
        bias_HQK = block.bias_QK - piece.lse_HQ1
        grads = piece.backward(
            saved.key_HSE[:, keys], saved.value_HSE[:, keys], bias_HQK, drop=drop, buffers=(weights_buffer, grads_buffer)
        )
        grad_query_HQE, grad_key_HKE, grad_value_HKE = grads
        grad_key_HSE[:, keys] += grad_key_HKE
        grad_value_HSE[:, keys] += grad_value_HKE
        if len(global_rows):
            grads = piece.backward(global_key_HGE, global_value_HGE, -piece.lse_HQ1, drop=drop, buffers=(weights_buffer, grads_buffer))
            grad_query_HQE += grads[0]
            grad_global_key_HGE += grads[1]
            grad_global_value_HGE += grads[2]
        grad_query_HSE[:, rows] = grad_query_HQE
    if len(global_rows):
        grad_key_HSE.index_add_(1, global_rows, grad_global_key_HGE)
        grad_value_HSE.index_add_(1, global_rows, grad_global_value_HGE)


@dataclass(frozen=True)
class _Rows:
    """One block of query rows in the backward pass."""

    query_HQE: Tensor
    grad_HQE: Tensor
    lse_HQ1: Tensor
    delta_HQ1: Tensor
    scale: float

    def backward(
        self, key_HKE: Tensor, value_HKE: Tensor, bias_HQK: Tensor, *, drop: _Dropout, buffers: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients with respect to query, key and value; `bias_HQK` already has the log-sum-exp taken off."""
        dtype = self.query_HQE.dtype
        weights_HQK = _scores(self.query_HQE, key_HKE, bias_HQK, scale=self.scale, buffer=buffers[0]).exp_()
        grads_HQK = _product(self.grad_HQE, value_HKE.mT, weights_HQK.dtype, buffer=buffers[1])
        multipliers_HQK = drop.multipliers(weights_HQK)
        dropped_HQK = weights_HQK if multipliers_HQK is None else weights_HQK * multipliers_HQK
        if multipliers_HQK is not None:
            grads_HQK.mul_(multipliers_HQK)
        grad_value_HKE = torch.bmm(dropped_HQK.to(dtype).mT, self.grad_HQE)
        grads_HQK.sub_(self.delta_HQ1).mul_(weights_HQK)
        grads_low_HQK = grads_HQK.to(dtype)
        return (
            torch.bmm(grads_low_HQK, key_HKE).mul_(self.scale),
            torch.bmm(grads_low_HQK.mT, self.query_HQE).mul_(self.scale),
            grad_value_HKE,
        )


def _scale(query_HSE: Tensor) -> float:
    return 1.0 / math.sqrt(query_HSE.shape[-1])


def _buffer(query_HSE: Tensor, example: ExamplePlan) -> Tensor:
    """Room for the scores of the largest block."""
    largest = max((block.bias_QK.numel() for block in example.blocks), default=0)
    return query_HSE.new_empty(len(query_HSE) * largest, dtype=softmax_dtype(query_HSE.dtype))


def _scores(query_HQE: Tensor, key_HKE: Tensor, bias_QK: Tensor, *, scale: float, buffer: Tensor) -> Tensor:
    """scale * query @ key^T + bias, in `buffer`."""
    shape = (len(query_HQE), query_HQE.shape[1], key_HKE.shape[1])
    scores_HQK = buffer[: math.prod(shape)].view(shape)
    if buffer.dtype == query_HQE.dtype:
        return scores_HQK.copy_(bias_QK).baddbmm_(query_HQE, key_HKE.mT, alpha=scale)
    return scores_HQK.copy_(torch.bmm(query_HQE, key_HKE.mT)).mul_(scale).add_(bias_QK)


def _product(left: Tensor, right: Tensor, dtype: torch.dtype, *, buffer: Tensor | None = None) -> Tensor:
    """left @ right as `dtype`; `left` may come in a wider dtype than `right`."""
    left = left.to(right.dtype)
    if buffer is None or dtype != right.dtype:
        return torch.bmm(left, right).to(dtype)
    shape = (len(left), left.shape[1], right.shape[2])
    return torch.bmm(left, right, out=buffer[: math.prod(shape)].view(shape))


def _dropped(weights_HQK: Tensor, drop: _Dropout) -> Tensor:
    multipliers_HQK = drop.multipliers(weights_HQK)
    return weights_HQK if multipliers_HQK is None else weights_HQK * multipliers_HQK
