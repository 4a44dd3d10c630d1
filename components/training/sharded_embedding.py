"""A frozen embedding under ZeRO stage 3 that is never whole: each rank looks up the rows of its own
shard for every rank's tokens.

The fact a newcomer gets wrong: the embedding is by far the largest single weight (525M of 8B
elements in Llama 3), stage 3 gathers all of it on every rank for a few thousand rows, and gloo
needs it twice while it does.
Shapes: T tokens of one rank, D width, W ranks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from components.training.zero3 import gathered

WEIGHT = "sharded_weight"
"""Where a module keeps its weight, out of the sight of DeepSpeed's hooks."""


@contextmanager
def lookups_over_shards(backbone: nn.Module) -> Iterator[None]:
    """Context in which the backbone's frozen embeddings answer from shards; their `weight` is away
    meanwhile. Call on every rank; does nothing below stage 3.
    """
    for module in [module for module in backbone.modules() if _can_stay_in_shards(module)]:
        module.__dict__[WEIGHT] = module._parameters.pop("weight")
        module.forward = MethodType(_looked_up, module)  # type: ignore[method-assign]
    try:
        yield
    finally:
        put_embeddings_back(backbone)


@contextmanager
def answering_embeddings(backbone: Any) -> Iterator[None]:
    """Context in which the input embeddings answer before there is an engine that would gather
    them: from shards, or whole where they cannot stay in shards. Call on every rank; does nothing
    below stage 3.
    """
    # In this order: what is looked up over shards is no parameter of its module meanwhile.
    with (
        lookups_over_shards(backbone),
        gathered(list(backbone.get_input_embeddings().parameters())),
    ):
        yield


def put_embeddings_back(backbone: nn.Module) -> None:
    """Undo what a trial that failed could not."""
    for module in backbone.modules():
        if WEIGHT in module.__dict__:
            module._parameters["weight"] = module.__dict__.pop(WEIGHT)
            del module.__dict__["forward"]


def _can_stay_in_shards(module: nn.Module) -> bool:
    if type(module) is not nn.Embedding or module.max_norm is not None:
        return False
    weight: Any = module.weight
    if not hasattr(weight, "ds_id") or weight.requires_grad or weight.ds_persist:
        return False
    # A shard that begins within a row would split it.
    return bool(weight.ds_tensor.ds_numel % weight.ds_shape[1] == 0)


def _looked_up(self: nn.Embedding, input_ids: Tensor) -> Tensor:
    """(..., D) for ids (...). Every rank calls it at the same time, with ids of its own."""
    weight = self.__dict__[WEIGHT]
    rows, width = weight.ds_shape
    ids_T = input_ids.flatten()
    all_ids = _of_all_ranks(ids_T)
    if len(all_ids) * max(len(each) for each in all_ids) >= rows:
        with gathered([weight]):
            return nn.functional.embedding(input_ids, weight)
    own = torch.empty(0)
    for rank, asked_T in enumerate(all_ids):
        part_TD = _part(weight.ds_tensor.view(-1, width), asked_T)
        # Exact: the others add zeros.
        dist.reduce(part_TD, dst=rank)
        if rank == dist.get_rank():
            own = part_TD
    return own.view(*input_ids.shape, width)


def _of_all_ranks(ids_T: Tensor) -> list[Tensor]:
    ranks = dist.get_world_size()
    counts = torch.empty(ranks, dtype=torch.int64, device=ids_T.device)
    dist.all_gather_into_tensor(counts, counts.new_tensor([len(ids_T)]))
    longest = int(counts.max())
    padded = ids_T.new_zeros(longest)
    padded[: len(ids_T)] = ids_T
    gathered_WT = ids_T.new_empty(ranks * longest)
    dist.all_gather_into_tensor(gathered_WT, padded)
    return [
        row[:count]
        for row, count in zip(gathered_WT.view(ranks, longest), counts.tolist(), strict=True)
    ]


def _part(shard_RD: Tensor, ids_T: Tensor) -> Tensor:
    """This rank's rows of those ids, zeros for the others'."""
    local_T = ids_T - dist.get_rank() * len(shard_RD)
    inside_T = (local_T >= 0) & (local_T < len(shard_RD))
    part_TD = nn.functional.embedding(local_T.clamp(0, len(shard_RD) - 1), shard_RD)
    return part_TD.masked_fill_(~inside_T[:, None], 0.0)
