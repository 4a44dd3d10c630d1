"""Bytes of tensors that are alive, op by op: what `torch.cuda.max_memory_allocated` counts on a
GPU, counted on any device.

The fact a newcomer gets wrong: a view shares its storage, and so does what an op returns in place;
a storage counts once, from the op that made it to its last reference's end. Room that a kernel
takes inside and gives back is not seen.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Context: `now` and `peak` bytes of storages that ops made within it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs or {}))
            if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self._alive:
                    self.now += storage.nbytes()
                    gone = self._forget(storage._cdata, storage.nbytes())
                    self._alive[storage._cdata] = weakref.ref(storage, gone)
        self.peak = max(self.peak, self.now)
        return result

    def _forget(self, key: int, size: int) -> Callable[[Any], None]:
        def forget(_: Any) -> None:
            self.now -= size
            self._alive.pop(key, None)

        return forget
