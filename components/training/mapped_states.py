"""A safetensors file of one tensor that is written where it lies, so that a document's states need
not be in memory before they are on disk.

The fact a newcomer gets wrong: safetensors writes from memory, and copies what it writes; the
format itself is a JSON header behind its own length, then the numbers.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


def mapped_tensor(path: Path, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The tensor `name` of a new file, to be filled; what is put into it is in the file."""
    size = int(np.prod(shape)) * dtype.itemsize
    about = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({name: about}).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    numbers = np.memmap(path, dtype=np.uint8, mode="r+", offset=8 + len(header), shape=(size,))
    return torch.from_numpy(numbers).view(dtype).view(shape)
