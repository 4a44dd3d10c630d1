"""What checkpointed layers keep (their inputs) waits for the backward pass in main memory, not on
the GPU.

The fact a newcomer gets wrong: torch's save_on_cpu would carry frozen weights over too, each time;
here only activations go. Without gradient checkpointing everything inside the layers would travel,
which costs more than it saves, and on a CPU there is nowhere to go: both are refused by name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LEAST_BYTES = 1024**2
"""Smaller tensors stay: a transfer costs more than their room."""
ON_A_CPU = "activations of a CPU are in main memory already"
Kept = tuple["Tensor", str | None]


@contextmanager
def offloaded_activations(*, least_bytes: int = LEAST_BYTES) -> Iterator[None]:
    """Context for a forward pass; the backward pass comes after it."""
    import torch

    def pack(tensor: "Tensor") -> Kept:
        weight = isinstance(tensor, torch.nn.Parameter) or tensor.untyped_storage().nbytes() == 0
        if weight or tensor.numel() * tensor.element_size() < least_bytes:
            return tensor, None
        pinned = tensor.is_cuda
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
        # Not non_blocking: the GPU's memory may be given to another tensor before the copy ends.
        copy.copy_(tensor)
        return copy, str(tensor.device)

    def unpack(kept: Kept) -> "Tensor":
        tensor, device = kept
        return tensor if device is None else tensor.to(device, non_blocking=True)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
