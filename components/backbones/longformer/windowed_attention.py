"""Local + global attention for local rows in one call of scaled_dot_product_attention: the blocks
of all documents are its batch. For accelerators, where a loop over blocks waits for launches, and
with dropout on attention weights, which FlexAttention lacks.

Not measured on a GPU. The fact a newcomer gets wrong: no mask may hide every key of a row, or
softmax gives nan and its gradient spreads. So hidden keys are biased by a large finite number, and
rows without a local result (padding, global rows) are zeroed afterwards, which stops their
gradients too.

Shapes: B batch, S rows, D hidden = H heads x E, C blocks of Q rows, G global keys (the most of an
example, filled up to a multiple of 8), K = 3 Q + G keys that a block sees, N global rows in the
batch.
"""

import torch
from torch import Tensor

from components.backbones.longformer.attention_plan import AttentionPlan

LEAST_BLOCK = 64
"""Rows of a block where the window is narrower."""
ALIGNED = 8
"""Kernels with a bias want its rows at multiples of 16 bytes."""
HIDDEN = -1e30
"""Bias of a key that is not seen. Finite after the kernels' own factors, and exp of it is 0."""


def windowed_attention(
    query_BSD: Tensor,
    key_BSD: Tensor,
    value_BSD: Tensor,
    global_output_ND: Tensor,
    *,
    plan: AttentionPlan,
    num_heads: int,
    dropout: float,
) -> Tensor:
    """The same as `banded_attention`, dropout drawn by the kernel."""
    block = _block(plan)
    global_BG = _global_index(plan)
    mixed_MHQE = torch.nn.functional.scaled_dot_product_attention(
        _heads(_blocks(query_BSD, block).flatten(0, 1), num_heads),
        *(
            _heads(_seen(tensor, global_BG, block).flatten(0, 1), num_heads)
            for tensor in (key_BSD, value_BSD)
        ),
        attn_mask=_bias_of(plan, query_BSD.dtype).flatten(0, 1)[:, None],
        dropout_p=dropout,
    )
    rows = query_BSD.shape[1]
    output_BSD = (
        mixed_MHQE.transpose(1, 2).flatten(2).unflatten(0, (len(query_BSD), -1)).flatten(1, 2)
    )[:, :rows]
    silent_BS1 = (plan.is_padding_BS | plan.is_global_BS)[..., None]
    return output_BSD.masked_fill(silent_BS1, 0.0).index_put(
        plan.global_places, global_output_ND.to(output_BSD.dtype)
    )


def _block(plan: AttentionPlan) -> int:
    """Rows of a block: a window's side, in multiples of 8; of a short document all rows."""
    wanted = max(plan.one_sided_window, LEAST_BLOCK)
    return -(-min(wanted, plan.is_padding_BS.shape[1]) // ALIGNED) * ALIGNED


def _blocks(tensor_BSD: Tensor, block: int) -> Tensor:
    """(B, C, Q, D), filled up with zeros."""
    short = -tensor_BSD.shape[1] % block
    return torch.nn.functional.pad(tensor_BSD, (0, 0, 0, short)).unflatten(1, (-1, block))


def _seen(tensor_BSD: Tensor, global_BG: Tensor, block: int) -> Tensor:
    """Keys or values (B, C, K, D) of each block: the block before, itself, the one after, and the
    global rows.
    """
    blocks_BCQD = _blocks(tensor_BSD, block)
    count = blocks_BCQD.shape[1]
    index_BGD = global_BG[..., None].expand(-1, -1, tensor_BSD.shape[-1])
    global_BCGD = tensor_BSD.gather(1, index_BGD)[:, None].expand(-1, count, -1, -1)
    if count == 1:
        return torch.cat([blocks_BCQD, global_BCGD], dim=2)
    edged_BCQD = torch.nn.functional.pad(blocks_BCQD, (0, 0, 0, 0, 1, 1))
    near = [edged_BCQD[:, shift : shift + count] for shift in range(3)]
    return torch.cat([*near, global_BCGD], dim=2)


def _global_index(plan: AttentionPlan) -> Tensor:
    """Rows (B, G) of the global keys; row 0 fills up."""
    rows_BG = plan.global_rows_BG
    return torch.nn.functional.pad(rows_BG, (0, -rows_BG.shape[1] % ALIGNED))


def _bias_of(plan: AttentionPlan, dtype: torch.dtype) -> Tensor:
    name = f"windows_{dtype}"
    if name not in plan.kernel_state:
        plan.kernel_state[name] = window_bias(plan, dtype)
    bias_BCQK: Tensor = plan.kernel_state[name]
    return bias_BCQK


def window_bias(plan: AttentionPlan, dtype: torch.dtype) -> Tensor:
    """(B, C, Q, K): 0 for a real key inside the window that is not global, and for the global keys
    at the end; HIDDEN elsewhere.
    """
    block, device = _block(plan), plan.is_padding_BS.device
    hidden_BCQ1 = _blocks((plan.is_padding_BS | plan.is_global_BS)[..., None], block)
    short = -plan.is_padding_BS.shape[1] % block
    if short:
        hidden_BCQ1[:, -1, -short:] = True
    count = hidden_BCQ1.shape[1]
    reach = 1 if count > 1 else 0
    edged_BCQ1 = torch.nn.functional.pad(hidden_BCQ1, (0, 0, 0, 0, reach, reach), value=True)
    near = [edged_BCQ1[:, shift : shift + count] for shift in range(2 * reach + 1)]
    hidden_BC1K = torch.cat(near, dim=2).transpose(2, 3)
    row_Q1 = torch.arange(block, device=device)[:, None] + reach * block
    key_K = torch.arange(hidden_BC1K.shape[-1], device=device)
    far_QK = (key_K - row_Q1).abs() > plan.one_sided_window
    counts_B1 = plan.is_global_BS.sum(dim=1, keepdim=True)
    absent_BG = torch.arange(_global_index(plan).shape[1], device=device) >= counts_B1
    absent_BCQG = absent_BG[:, None, None].expand(-1, count, block, -1)
    unseen_BCQK = torch.cat([hidden_BC1K | far_QK, absent_BCQG], dim=3)
    return torch.zeros(unseen_BCQK.shape, dtype=dtype, device=device).masked_fill_(
        unseen_BCQK, max(HIDDEN, torch.finfo(dtype).min)
    )


def _heads(tensor_MSD: Tensor, num_heads: int) -> Tensor:
    return tensor_MSD.unflatten(-1, (num_heads, -1)).transpose(1, 2)
