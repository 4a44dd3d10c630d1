"""The most memory that one assignment of a slot took. A slot's process serves many, so the peak has
to be started anew for each.

On a GPU it is what tensors took there; on the CPU the resident size of the process, the backbone
and all libraries included, because nothing smaller is measured there.
"""

import ctypes
import gc
from pathlib import Path

import torch

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"  # proc(5): sets the peak resident size to the present one


def start_peak(device: torch.device) -> None:
    """Forget the peak so far. Memory that earlier work freed is given back to the system first, as
    far as the C library does.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif CLEAR.exists():
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(RESET_PEAK, encoding="ascii")


def peak_bytes(device: torch.device) -> int | None:
    """Bytes since `start_peak`; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if not (CLEAR.exists() and STATUS.exists()):
        return None
    line = next(
        (
            line
            for line in STATUS.read_text(encoding="ascii").splitlines()
            if line.startswith("VmHWM:")
        ),
        None,
    )
    return None if line is None else int(line.split()[1]) * 1024
