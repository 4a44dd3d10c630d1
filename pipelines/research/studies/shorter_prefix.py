"""An adapter folder with some rows of its prefix alone, and ways to choose them.

Shapes: L layers, P prefix length, D width.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.atomic_folder import atomic_folder

if TYPE_CHECKING:
    from torch import Tensor

Rows = list[int]

WAYS: dict[str, Callable[[Sequence[float], int], Rows]] = {
    "first": lambda norm_P, length: list(range(length)),
    "largest": lambda norm_P, length: sorted(np.argsort(norm_P)[::-1][:length].tolist()),
    "smallest": lambda norm_P, length: sorted(np.argsort(norm_P)[:length].tolist()),
}
"""Which rows of P stay, given each one's norm; `smallest` is the control of `largest`."""


def norms(folder: Path) -> list[float]:
    """Norm of every row's values over layers, (P,)."""
    squares = [value.double().square().sum(dim=(0, 2)) for value in _prefixes(folder).values()]
    return [float(each) for each in sum(squares[1:], squares[0]).sqrt()]


def cut_adapter(folder: Path, rows: Rows, target: Path) -> Path:
    """Write `target`: the adapter in `folder` with these rows of its prefix alone."""
    from safetensors.torch import load_file, save_file

    from components.adapters.reading import CONFIG_FILE, TENSOR_FILE, read_adapter_config

    config, tensors = read_adapter_config(folder), load_file(folder / TENSOR_FILE)
    for name in _prefixes(folder):
        tensors[name] = tensors[name][:, rows].contiguous()
    with atomic_folder(target) as unfinished:
        text = json.dumps(config | {"prefix_length": len(rows)}, indent=2) + "\n"
        (unfinished / CONFIG_FILE).write_text(text, encoding="utf-8")
        save_file(tensors, unfinished / TENSOR_FILE)
    return target


def _prefixes(folder: Path) -> "dict[str, Tensor]":
    """The tensors (L, P, D) that hold a row of the prefix in every layer."""
    from safetensors.torch import load_file

    from components.adapters.reading import TENSOR_FILE

    tensors = load_file(folder / TENSOR_FILE)
    return {name: tensors[name] for name in tensors if name.startswith("adapter.prefix")}
