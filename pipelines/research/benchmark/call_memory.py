"""Memory that one call takes at most, forward and backward: by the device's own counter on a GPU,
by the resident memory's high mark elsewhere.
"""

import ctypes
import gc
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.research.benchmark.sides import peak_bytes, restart_peak


def call_memory(call: Callable[[], Any], leaves: Sequence[Any]) -> tuple[Any, int]:
    """(the call's detached output, bytes above what was there before, at most). Its gradients with
    respect to `leaves` are computed and dropped.
    """
    import torch

    on_gpu = leaves[0].is_cuda
    gc.collect()
    _give_freed_memory_back()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else restart_peak()
    output = call()
    torch.autograd.grad(output, leaves, torch.ones_like(output))
    after = torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()
    return output.detach(), max(0, after - before)


M_MMAP_THRESHOLD = -3


def _give_freed_memory_back() -> None:
    """Let glibc take large pieces from the system and return them: else a call lives on what an
    earlier one left, and takes nothing.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(M_MMAP_THRESHOLD, 128 * 1024)
        libc.malloc_trim(0)
