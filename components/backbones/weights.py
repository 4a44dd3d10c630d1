"""The weight files of a checkpoint, looked at without torch: which there are, whether they are
whole, and whether they fit config.json.

The fact a newcomer gets wrong: transformers takes model.safetensors before its index and both
before pytorch_model.bin, and random numbers where a size does not fit or a tensor is missing.
"""

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.backbones.quantization import quantization_of
from components.backbones.text_model import is_text_tensor, text_values
from components.errors import BackboneError
from components.foreign_file import (
    ForeignFileError,
    StoredTensor,
    open_foreign,
    read_json,
    stand_in,
    start_of,
    stored_tensors,
)

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In the order in which transformers looks for them."""

FLOATS = ("F16", "BF16", "F32", "F64")
PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
ZIP_START = b"PK\x03\x04"
QUANTISED_TENSOR = re.compile(
    r"\.(qweight|qzeros|g_idx|absmax|quant_map|SCB|weight_scale|weight_scale_inv|weight_packed"
    r"|weight_zero_point|input_scale|quant_state\..*|weight\.(absmax|quant_map|.*quant_state.*))$"
)
LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")

Values = Mapping[str, Any]
Shape = tuple[int, ...]


def _head_size(values: Values) -> int:
    return int(values.get("head_dim") or values["hidden_size"] // values["num_attention_heads"])


def _table(field: str) -> Callable[[Values], Shape]:
    return lambda values: (values[field], values["hidden_size"])


SHAPES: Mapping[str, tuple[str, Callable[[Values], Shape]]] = {
    "word_embeddings.weight": ("vocab_size", _table("vocab_size")),
    "embed_tokens.weight": ("vocab_size", _table("vocab_size")),
    "position_embeddings.weight": ("max_position_embeddings", _table("max_position_embeddings")),
    "token_type_embeddings.weight": (
        "type_vocab_size",
        lambda values: (values.get("type_vocab_size", 2), values["hidden_size"]),
    ),
    "intermediate.dense.weight": ("intermediate_size", _table("intermediate_size")),
    "mlp.up_proj.weight": ("intermediate_size", _table("intermediate_size")),
    "self_attn.q_proj.weight": (
        "num_attention_heads",
        lambda values: (values["num_attention_heads"] * _head_size(values), values["hidden_size"]),
    ),
    "self_attn.k_proj.weight": (
        "num_key_value_heads",
        lambda values: (
            (values.get("num_key_value_heads") or values["num_attention_heads"])
            * _head_size(values),
            values["hidden_size"],
        ),
    ),
}
"""End of a tensor's name, as transformers names them -> the field of config.json that decides its
rows, and its shape.
"""


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold a checkpoint's weights: one, or the shards of its index.

    Raises BackboneError where there are none or a shard is missing.
    """
    for name in WEIGHT_FILES:
        path = folder / name
        if path.is_symlink() or path.exists():
            return _shards(path) if name.endswith(".index.json") else (path,)
    raise BackboneError(
        f"cannot load the weights of '{folder}': it holds none of "
        f"{', '.join(WEIGHT_FILES)}. Save the model with save_pretrained, or download the whole "
        "checkpoint."
    )


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        values = read_json(index)
        places = values["weight_map"]
        names = sorted(set(places.values()))
        if not names or any(Path(name).name != name for name in names):
            raise ForeignFileError("names no files in weight_map")
    except ForeignFileError as error:
        raise BackboneError(f"{index} {error}.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise BackboneError(f"{index} holds no weight_map. Get the checkpoint again.") from error
    for name in names:
        if not (index.parent / name).exists():
            raise BackboneError(
                f"{index} names the shard {name}, which is not there: {len(names)} are needed. "
                "Get the whole checkpoint."
            )
    return tuple(index.parent / name for name in names)


def check_weights(folder: Path, values: Values) -> None:
    """Raise BackboneError, which names file and field, where the weights are not whole, are
    quantised although `values`, the config.json beside them, does not say so, or have other sizes
    than it says.

    Of torch files (.bin) the wholeness alone is told here; their sizes when they are loaded.
    """
    if (folder / "adapter_config.json").exists():
        raise BackboneError(
            f"'{folder}' holds an adapter (adapter_config.json), whose base would be loaded in its "
            "place. Give the folder of a base model, or merge the adapter into it."
        )
    whole, values = values, text_values(values)
    tensors: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        try:
            if path.suffix == ".safetensors":
                tensors |= stored_tensors(path)
            else:
                _check_torch_file(path)
        except FileNotFoundError as error:
            raise BackboneError(
                f"{path} is a link to nothing. Get the checkpoint again."
            ) from error
        except ForeignFileError as error:
            raise BackboneError(f"{path} {error}.") from error
    tensors = {name: each for name, each in tensors.items() if is_text_tensor(name, whole)}
    if tensors:
        if quantization_of(whole) is None:
            _check_numbers(tensors, folder)
        _check_shapes(tensors, values, folder)


def _check_torch_file(path: Path) -> None:
    start = start_of(path)
    if reason := stand_in(start, path):
        raise ForeignFileError(reason)
    if start.startswith(ZIP_START):
        with open_foreign(path) as file:
            if not zipfile.is_zipfile(file):
                raise ForeignFileError(
                    "is cut off: the end of its archive is missing. Get it again"
                )
    elif not start.startswith(PICKLE_STARTS):
        raise ForeignFileError("is no file of torch weights. Get it again")


def _check_numbers(tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    for name, tensor in tensors.items():
        whole_numbers = name.endswith((".weight", ".bias")) and tensor.dtype not in FLOATS
        if whole_numbers or QUANTISED_TENSOR.search(name):
            raise BackboneError(
                f"'{folder}': {name} is {tensor.dtype}: the weights are quantised, and config.json "
                "does not say how (quantization_config). Give the config.json that came with them, "
                "or the checkpoint in float32, float16 or bfloat16 that they were made from."
            )


def _packs(tensor: StoredTensor, shape: Shape) -> bool:
    """Whether it holds weights of that shape, two in a byte, as bitsandbytes writes 4 bits."""
    return tensor.dtype == "U8" and tensor.shape == (-(-math.prod(shape) // 2), 1)


def _check_shapes(tensors: Mapping[str, StoredTensor], values: Values, folder: Path) -> None:
    for name, tensor in tensors.items():
        for end, (field, shape) in SHAPES.items():
            if not name.endswith("." + end) and name != end:
                continue
            expected = shape(values)
            if tensor.shape != expected and not _packs(tensor, expected):
                raise BackboneError(
                    f"'{folder}': {name} has shape {list(tensor.shape)} and config.json asks for "
                    f"{list(expected)} (its {field} is {values.get(field)}). Write the value with "
                    "which the model was trained, or get the checkpoint again."
                )
    layers = [int(found[1]) for name in tensors if (found := LAYER.search(name))]
    if layers and max(layers) + 1 != values["num_hidden_layers"]:
        raise BackboneError(
            f"'{folder}': the weights have {max(layers) + 1} layers, num_hidden_layers in "
            f"config.json is {values['num_hidden_layers']}. Write the number of layers that there "
            "are, or get the checkpoint again."
        )
