"""Gradients at ZeRO stages 1 and 2, added up on the rank that keeps them and nowhere else.

The fact a newcomer gets wrong: DeepSpeed 0.19.8 adds them up on every rank (an all-reduce), though
each rank keeps its own share alone, and gathers the new parameters after the step besides: half as
many bytes again as stage 0. Its other way, a reduce per rank (`use_multi_rank_bucket_allreduce:
false`), waits for one rank after the other. Remove once it scatters what it reduces.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def reduce_to_owners(zero: Any) -> None:
    """Let DeepSpeed's optimizer of stage 1 or 2 exchange gradients so: every rank sends every other
    one its part of what that one keeps, in one collective a bucket. Sums go in the order of ranks.
    """
    zero.allreduce_and_copy_with_multiple_ranks = partial(_reduced, zero)


def _reduced(
    zero: Any,
    small_bucket: Sequence[Tensor],
    communication_data_type: torch.dtype,
    *,
    bucket_ranks: Sequence[Collection[int]],
    output_bucket: Sequence[Tensor | None],
    process_group: Any = None,
    divide: bool = True,
    log: Any = None,
) -> None:
    """In place of DeepSpeed's function of the name above: `small_bucket` holds pieces of gradients,
    already divided by the number of ranks, `bucket_ranks` who keeps each.
    """
    assert not divide and all(piece.dtype == communication_data_type for piece in small_bucket)
    group = zero.dp_process_group if process_group is None else process_group
    ranks, own_rank = dist.get_world_size(group), dist.get_rank(group)
    kept: list[list[Tensor]] = [[] for _ in range(ranks)]
    for piece, owners in zip(small_bucket, bucket_ranks, strict=True):
        (owner,) = owners
        kept[owner].append(piece)
    sizes = [sum(piece.numel() for piece in pieces) for pieces in kept]
    received = small_bucket[0].new_empty(ranks, sizes[own_rank])
    sent = torch.cat([piece.flatten() for pieces in kept for piece in pieces])
    dist.all_to_all_single(received.view(-1), sent, [sizes[own_rank]] * ranks, sizes, group=group)
    total = received.sum(0).split([piece.numel() for piece in kept[own_rank]])
    outputs = [
        output
        for output, owners in zip(output_bucket, bucket_ranks, strict=True)
        if own_rank in owners
    ]
    for piece, output, values in zip(kept[own_rank], outputs, total, strict=True):
        zero._add_to_grad_partition_buffer(output, values)
        piece.copy_(values.view_as(piece))
