"""Local + global attention for local rows on a GPU: FlexAttention, compiled, with a block mask.

Not measured: no GPU was at hand. On a CPU the same code runs eagerly, forward only, which is how
the tests compare its mask with the dense definition. The block mask is put together from the plan's
masks block by block: no S x S mask is ever built.

Shapes: B batch, S rows, D hidden = H heads x E, N global rows of the batch, C blocks of the
sequence.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from components.backbones.longformer.attention_plan import AttentionPlan

FLEX_BLOCK_SIZE = 128
"""Rows of a block of the block mask: what FlexAttention's kernels take by default."""


def flex_local_attention(
    query_BSD: Tensor,
    key_BSD: Tensor,
    value_BSD: Tensor,
    global_output_ND: Tensor,
    *,
    plan: AttentionPlan,
    num_heads: int,
    dropout: float,
) -> Tensor:
    """The same as `banded_attention`, for GPUs and without dropout."""
    assert dropout == 0.0, "FlexAttention has no dropout on attention weights (kernel_choice.py)"
    heads = (
        tensor.unflatten(-1, (num_heads, -1)).transpose(1, 2)
        for tensor in (query_BSD, key_BSD, value_BSD)
    )
    output_BHSE = _kernel(query_BSD.is_cuda)(*heads, block_mask=_mask_of(plan))
    return output_BHSE.transpose(1, 2).flatten(2).index_put(plan.global_places, global_output_ND)


@cache
def _kernel(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True) if compiled else flex_attention


@cache
def has_compiler() -> bool:
    """Whether torch.compile can make GPU kernels on this machine."""
    return find_spec("triton") is not None


def _mask_of(plan: AttentionPlan) -> Any:
    if "block_mask" not in plan.kernel_state:
        plan.kernel_state["block_mask"] = block_mask(plan)
    return plan.kernel_state["block_mask"]


def block_mask(plan: AttentionPlan) -> Any:
    """FlexAttention's mask: a real key that is global or inside the window. A padding row sees
    nothing and comes out as zeros.
    """
    from torch.nn.attention.flex_attention import BlockMask

    masked_BS, global_BS, window = plan.is_padding_BS, plan.is_global_BS, plan.one_sided_window

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        near = (query - key).abs() <= window
        return (near | global_BS[batch, key]) & ~masked_BS[batch, key] & ~masked_BS[batch, query]

    rows = masked_BS.shape[1]
    blocks = -(-rows // FLEX_BLOCK_SIZE)
    index_C = torch.arange(blocks, device=masked_BS.device)
    reach = -(-window // FLEX_BLOCK_SIZE)
    near_CC = (index_C[:, None] - index_C[None]).abs() <= reach
    padded_BS = torch.nn.functional.pad(global_BS, (0, blocks * FLEX_BLOCK_SIZE - rows))
    has_global_BC = padded_BS.unflatten(1, (blocks, FLEX_BLOCK_SIZE)).any(-1)
    visit_B1CC = (near_CC[None] | has_global_BC[:, None])[:, None].to(torch.int32)
    order_B1CC = visit_B1CC.argsort(dim=-1, descending=True, stable=True).to(torch.int32)
    counts_B1C = visit_B1CC.sum(-1, dtype=torch.int32)
    return BlockMask.from_kv_blocks(
        counts_B1C, order_B1CC, BLOCK_SIZE=FLEX_BLOCK_SIZE, mask_mod=sees, seq_lengths=(rows, rows)
    )
