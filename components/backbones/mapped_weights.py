"""Tensors of a safetensors file over read-only pages.

The fact a newcomer gets wrong: a file that safetensors maps counts as a process's own writable
memory, all of it, although none is touched: a rank that only passes weights on would need room for
the whole model under a limit of its data (RLIMIT_DATA, ulimit -d).
"""

import json
import mmap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from components.foreign_file import open_foreign

if TYPE_CHECKING:
    from torch import Tensor


def read_only_tensors(path: Path) -> "dict[str, Tensor]":
    """Name -> tensor, of a file whose header was checked before (check_weights). Writing to one of
    them ends the process.
    """
    import torch
    from safetensors.torch import _TYPES

    with open_foreign(path) as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header.pop("__metadata__", None)
    tensors = {}
    for name, values in header.items():
        dtype, (start, end) = _TYPES[values["dtype"]], values["data_offsets"]
        if start == end:
            tensors[name] = torch.empty(values["shape"], dtype=dtype)
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            flat = torch.frombuffer(
                pages,
                dtype=dtype,
                count=(end - start) // dtype.itemsize,
                offset=8 + length + start,
            )
        tensors[name] = flat.view(values["shape"])
    return tensors
