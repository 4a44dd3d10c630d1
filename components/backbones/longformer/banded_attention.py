"""Local + global attention for local rows, block by block: exact, and bounded by matrix products
instead of memory traffic.

Each block of query rows meets its window of keys and all global keys in one softmax. Scores live
only in a buffer that fits the cache; the backward pass recomputes them from the saved log-sum-exp
instead of keeping probabilities, which is cheaper than reading them back and takes no memory. Heads
are strided views of (S, D): nothing is transposed or copied. Exponentials are to base 2: torch.exp
on a CPU is up to 100 times slower where its result underflows, as it does at every masked key;
torch.exp2 is not.

Shapes: B batch, S rows, D hidden = H heads x E, G global keys, N global rows in the batch, Q query
rows of a block, K keys that they see.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from components.backbones.longformer.attention_plan import AttentionPlan, ExamplePlan
from components.backbones.longformer.kernel_choice import product_dtype, softmax_dtype


def banded_attention(
    query_BSD: Tensor,
    key_BSD: Tensor,
    value_BSD: Tensor,
    global_output_ND: Tensor,
    *,
    plan: AttentionPlan,
    num_heads: int,
    dropout: float,
) -> Tensor:
    """Attention output (B, S, D) of local rows, with the global rows' own output `global_output_ND`
    put in their places.

    `global_output_ND`: one row for each of `plan.global_places`, in that order. `dropout`:
    probability on attention weights, 0 in evaluation. Padding rows give zeros, take no gradient and
    give none.
    """
    output_BSD: Tensor = _BandedAttention.apply(
        query_BSD, key_BSD, value_BSD, global_output_ND, plan, num_heads, dropout
    )
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
        given = query_BSD.contiguous(), key_BSD.contiguous(), value_BSD.contiguous()
        query_BSD, key_BSD, value_BSD = (
            tensor.to(product_dtype(tensor.device.type, tensor.dtype)) for tensor in given
        )
        seed = int(torch.randint(2**62, ())) if dropout > 0 else 0
        output_BSD = torch.zeros_like(query_BSD)
        lse_BHS = query_BSD.new_full(
            (len(query_BSD), num_heads, query_BSD.shape[1]),
            math.inf,
            dtype=softmax_dtype(query_BSD.dtype),
        )
        with torch.autocast(query_BSD.device.type, enabled=False):
            drop = _Dropout(dropout, seed, query_BSD.device)
            for index, example in enumerate(plan.examples):
                query, key, value, output = (
                    _heads(tensor[index], num_heads)
                    for tensor in (query_BSD, key_BSD, value_BSD, output_BSD)
                )
                _attend(
                    query, key, value, example, drop=drop, output_HSE=output, lse_HS=lse_BHS[index]
                )
        output_BSD = output_BSD.to(given[0].dtype)
        output_BSD[plan.global_places] = global_output_ND.to(output_BSD.dtype)
        ctx.save_for_backward(*given, output_BSD, lse_BHS)
        ctx.plan, ctx.num_heads, ctx.dropout, ctx.seed = plan, num_heads, dropout, seed
        return output_BSD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        *saved_tensors, lse_BHS = ctx.saved_tensors
        dtype, num_heads = saved_tensors[0].dtype, ctx.num_heads
        query_BSD, key_BSD, value_BSD, output_BSD, grad_BSD = (
            tensor.to(product_dtype(tensor.device.type, tensor.dtype))
            for tensor in (*saved_tensors, grads[0].contiguous())
        )
        results = tuple(torch.zeros_like(tensor) for tensor in (query_BSD, key_BSD, value_BSD))
        with torch.autocast(grad_BSD.device.type, enabled=False):
            drop = _Dropout(ctx.dropout, ctx.seed, grad_BSD.device)
            delta_BHS = (
                (grad_BSD * output_BSD)
                .unflatten(-1, (num_heads, -1))
                .sum(-1, dtype=lse_BHS.dtype)
                .transpose(1, 2)
            )
            for index, example in enumerate(ctx.plan.examples):
                query, key, value, grad = (
                    _heads(tensor[index], num_heads)
                    for tensor in (query_BSD, key_BSD, value_BSD, grad_BSD)
                )
                saved = _Rows(query, grad, lse_BHS[index, :, :, None], delta_BHS[index, :, :, None])
                grad_query, grad_key, grad_value = (
                    _heads(tensor[index], num_heads) for tensor in results
                )
                _attend_backward(
                    saved,
                    key,
                    value,
                    example,
                    drop=drop,
                    grad_query_HSE=grad_query,
                    grad_key_HSE=grad_key,
                    grad_value_HSE=grad_value,
                )
            scale = _scale(query)
            results[0].mul_(scale)
            results[1].mul_(scale)
        return (
            *(result.to(dtype) for result in results),
            grads[0][ctx.plan.global_places],
            None,
            None,
            None,
        )


def _attend(
    query_HSE: Tensor,
    key_HSE: Tensor,
    value_HSE: Tensor,
    example: ExamplePlan,
    *,
    drop: "_Dropout",
    output_HSE: Tensor,
    lse_HS: Tensor,
) -> None:
    """Fill in output and log-sum-exp of one example's local rows."""
    if not example.blocks:
        return
    buffer, length = _buffer(query_HSE, example), example.blocks[-1].query_end
    query_HSE, output_HSE = query_HSE[:, :length], output_HSE[:, :length]
    lse_HS, rows_G = lse_HS[:, :length], example.global_rows
    global_key_HGE, global_value_HGE = key_HSE[:, rows_G], value_HSE[:, rows_G]
    global_scores_HSG = (
        torch.bmm(query_HSE, global_key_HGE.mT).to(lse_HS.dtype).mul_(_scale(query_HSE) * LOG2_E)
    )
    finite_HS1 = lse_HS.new_full((*lse_HS.shape, 1), torch.finfo(lse_HS.dtype).min)
    largest_HS1 = (
        global_scores_HSG.amax(-1, keepdim=True) if len(example.global_rows) else finite_HS1
    )
    sum_HS1 = torch.empty_like(largest_HS1)
    mixed_HSE = (
        output_HSE
        if output_HSE.dtype == lse_HS.dtype
        else torch.empty_like(output_HSE, dtype=lse_HS.dtype)
    )
    for block in example.blocks:
        rows, keys = (
            slice(block.query_start, block.query_end),
            slice(block.key_start, block.key_end),
        )
        weights_HQK = _scores(query_HSE[:, rows], key_HSE[:, keys], block.bias_QK, buffer=buffer)
        largest_HQ1 = torch.maximum(weights_HQK.amax(-1, keepdim=True), largest_HS1[:, rows])
        weights_HQK.sub_(largest_HQ1).exp2_()
        largest_HS1[:, rows] = largest_HQ1
        sum_HS1[:, rows] = weights_HQK.sum(-1, keepdim=True)
        mixed_HSE[:, rows] = torch.bmm(drop(weights_HQK).to(value_HSE.dtype), value_HSE[:, keys])
    global_weights_HSG = global_scores_HSG.sub_(largest_HS1).exp2_()
    sum_HS1 += global_weights_HSG.sum(-1, keepdim=True)
    mixed_HSE += torch.bmm(drop(global_weights_HSG).to(value_HSE.dtype), global_value_HGE)
    output_HSE.copy_(mixed_HSE.div_(sum_HS1))
    lse_HS.copy_(largest_HS1.add_(sum_HS1.log2_())[..., 0])
    output_HSE[:, example.silent_rows] = 0.0
    lse_HS[:, example.silent_rows] = math.inf


@dataclass(frozen=True)
class _Rows:
    """Query rows in the backward pass."""

    query_HQE: Tensor
    grad_HQE: Tensor
    lse_HQ1: Tensor
    """Log2 of the sum of exp(scores); +inf in rows without a local result, so that their weights
    come out as 0.
    """
    delta_HQ1: Tensor
    """Gradient times output, summed over E: what softmax's backward subtracts."""

    def part(self, start: int, end: int) -> "_Rows":
        return _Rows(
            self.query_HQE[:, start:end],
            self.grad_HQE[:, start:end],
            self.lse_HQ1[:, start:end],
            self.delta_HQ1[:, start:end],
        )


def _attend_backward(
    saved: _Rows,
    key_HSE: Tensor,
    value_HSE: Tensor,
    example: ExamplePlan,
    *,
    drop: "_Dropout",
    grad_query_HSE: Tensor,
    grad_key_HSE: Tensor,
    grad_value_HSE: Tensor,
) -> None:
    """Add one example's gradients to the three results; those of query and key still lack the
    scale.
    """
    if not example.blocks:
        return
    buffers = _buffer(saved.query_HQE, example), _buffer(saved.query_HQE, example)
    for block in example.blocks:
        keys = slice(block.key_start, block.key_end)
        rows = saved.part(block.query_start, block.query_end)
        grads = _softmax_backward(
            rows, key_HSE[:, keys], value_HSE[:, keys], block.bias_QK, drop=drop, buffers=buffers
        )
        grad_query_HSE[:, block.query_start : block.query_end] = grads[0]
        grad_key_HSE[:, keys] += grads[1]
        grad_value_HSE[:, keys] += grads[2]
    if len(example.global_rows):
        length, global_rows = example.blocks[-1].query_end, example.global_rows
        room = tuple(
            saved.lse_HQ1.new_empty(len(key_HSE) * length * len(global_rows)) for _ in range(2)
        )
        no_bias = saved.lse_HQ1.new_zeros(len(global_rows))
        grads = _softmax_backward(
            saved.part(0, length),
            key_HSE[:, global_rows],
            value_HSE[:, global_rows],
            no_bias,
            drop=drop,
            buffers=(room[0], room[1]),
        )
        grad_query_HSE[:, :length] += grads[0]
        grad_key_HSE.index_add_(1, global_rows, grads[1])
        grad_value_HSE.index_add_(1, global_rows, grads[2])


def _softmax_backward(
    rows: _Rows,
    key_HKE: Tensor,
    value_HKE: Tensor,
    bias_QK: Tensor,
    *,
    drop: "_Dropout",
    buffers: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to query and key (before the scale) and value, from these keys
    alone.
    """
    dtype = key_HKE.dtype
    weights_HQK = _scores(
        rows.query_HQE, key_HKE, bias_QK, buffer=buffers[0], minus_HQ1=rows.lse_HQ1
    ).exp2_()
    grads_HQK = _in(buffers[1], rows.query_HQE, key_HKE)
    if grads_HQK.dtype == dtype:
        torch.bmm(rows.grad_HQE, value_HKE.mT, out=grads_HQK)
    else:
        grads_HQK.copy_(torch.bmm(rows.grad_HQE, value_HKE.mT))
    multipliers_HQK = drop.multipliers(weights_HQK)
    if multipliers_HQK is None:
        grad_value_HKE = torch.bmm(weights_HQK.to(dtype).mT, rows.grad_HQE)
    else:
        grad_value_HKE = torch.bmm((weights_HQK * multipliers_HQK).to(dtype).mT, rows.grad_HQE)
        grads_HQK.mul_(multipliers_HQK)
    grads_low_HQK = grads_HQK.sub_(rows.delta_HQ1).mul_(weights_HQK).to(dtype)
    return (
        torch.bmm(grads_low_HQK, key_HKE),
        torch.bmm(grads_low_HQK.mT, rows.query_HQE),
        grad_value_HKE,
    )


class _Dropout:
    """Dropout on attention weights that draws the same sequence in the forward pass and in the
    backward pass.
    """

    def __init__(self, probability: float, seed: int, device: torch.device) -> None:
        self.keep = 1.0 - probability
        self.generator = (
            torch.Generator(device=device).manual_seed(seed) if probability > 0 else None
        )

    def multipliers(self, like: Tensor) -> Tensor | None:
        """0 or 1/(1-p) for each weight; None without dropout."""
        if self.generator is None:
            return None
        return (
            torch.empty_like(like).bernoulli_(self.keep, generator=self.generator).div_(self.keep)
        )

    def __call__(self, weights: Tensor) -> Tensor:
        multipliers = self.multipliers(weights)
        return weights if multipliers is None else weights * multipliers


LOG2_E = math.log2(math.e)


def _heads(tensor_SD: Tensor, num_heads: int) -> Tensor:
    return tensor_SD.unflatten(-1, (num_heads, -1)).transpose(0, 1)


def _scale(query_HSE: Tensor) -> float:
    return 1.0 / math.sqrt(query_HSE.shape[-1])


def _buffer(query_HSE: Tensor, example: ExamplePlan) -> Tensor:
    """Room for the scores of the largest block."""
    largest = max(block.bias_QK.numel() for block in example.blocks)
    return query_HSE.new_empty(len(query_HSE) * largest, dtype=softmax_dtype(query_HSE.dtype))


def _in(buffer: Tensor, query_HQE: Tensor, key_HKE: Tensor) -> Tensor:
    shape = (len(query_HQE), query_HQE.shape[1], key_HKE.shape[1])
    return buffer[: math.prod(shape)].view(shape)


def _scores(
    query_HQE: Tensor,
    key_HKE: Tensor,
    bias_QK: Tensor,
    *,
    buffer: Tensor,
    minus_HQ1: Tensor | None = None,
) -> Tensor:
    """log2(e) * scale * query @ key^T + bias - minus, in `buffer`."""
    scores_HQK, scale = _in(buffer, query_HQE, key_HKE), _scale(query_HQE) * LOG2_E
    if minus_HQ1 is None:
        scores_HQK.copy_(bias_QK)
    else:
        torch.sub(bias_QK, minus_HQ1, out=scores_HQK)
    if scores_HQK.dtype == query_HQE.dtype:
        return scores_HQK.baddbmm_(query_HQE, key_HKE.mT, alpha=scale)
    return scores_HQK.add_(torch.bmm(query_HQE, key_HKE.mT), alpha=scale)
