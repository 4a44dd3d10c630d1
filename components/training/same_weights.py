"""Frozen weights are the same on every rank because every rank reads them, and that they are is
checked once, when they are loaded.

The fact a newcomer gets wrong: below stage 3 `deepspeed.initialize` sends every parameter of rank 0
to all others, the frozen ones too, at every trial. Beside the time it costs the sharing of mapped
weights: a page that is written to is the rank's own from then on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from components.errors import BackboneError
from components.training.world import World

SKIPPED = "ds_optim_param"
"""DeepSpeed's own mark of parameters that DeepSpeedEngine._broadcast_model (0.19.8) leaves out;
what else reads it is off here. Remove once it leaves frozen ones out.
"""
PIECE = 1 << 20
"""Numbers that are added up at once: the sum is made of copies in int64."""
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextmanager
def frozen_not_broadcast(model: nn.Module) -> Iterator[None]:
    """Context in which `deepspeed.initialize` sends trained parameters alone."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        setattr(parameter, SKIPPED, True)
    try:
        yield
    finally:
        for parameter in frozen:
            delattr(parameter, SKIPPED)


def check_same_weights(backbone: nn.Module, world: World, *, name: str) -> None:
    """Raise BackboneError, on every rank, where ranks hold other weights than rank 0. Read as
    integers and added up, per parameter: 0.3 s a GB of float32 on one core.
    """
    if world.size == 1:
        return
    sums = {each: bit_sum(number) for each, number in plain_tensors(backbone)}
    first, *others = world.gather(sums)
    for rank, other in enumerate(others, start=1):
        if different := sorted(
            each for each in first | other if first.get(each) != other.get(each)
        ):
            raise BackboneError(
                f"rank {rank} loaded other weights of '{name}' than rank 0: {len(different)} of "
                f"{len(first)} parameters, for example {different[0]}. Give every node the same "
                "checkpoint (backbone.revision names one of a hub)."
            )


def plain_tensors(backbone: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The plain tensors that a backbone computes with, by name: its parameters; of quantised ones
    what torchao keeps inside, and the scales that bitsandbytes keeps beside, with 8 bits in the
    module (`state`) as soon as it has run.
    """
    for name, parameter in backbone.named_parameters():
        yield from _inside(name, parameter)
    for name, module in backbone.named_modules():
        weight = getattr(module, "weight", None)
        state = getattr(weight, "quant_state", None)
        scales = {
            "absmax": getattr(state, "absmax", None),
            "absmax.absmax": getattr(getattr(state, "state2", None), "absmax", None),
            "SCB": getattr(getattr(module, "state", weight), "SCB", None),
        }
        yield from ((f"{name}.{kept}", each) for kept, each in scales.items() if each is not None)


def _inside(name: str, tensor: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if not hasattr(tensor, "__tensor_flatten__"):
        yield name, tensor
        return
    for inner in tensor.__tensor_flatten__()[0]:
        yield from _inside(f"{name}.{inner}", getattr(tensor, inner))


def bit_sum(tensor: torch.Tensor) -> int:
    """The bits of a tensor as integers, added up."""
    flat = tensor.detach().contiguous().flatten().view(INTEGERS[tensor.element_size()])
    return int(sum(piece.sum(dtype=torch.int64) for piece in flat.split(PIECE)))
