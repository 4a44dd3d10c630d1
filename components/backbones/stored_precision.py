"""In which arithmetic a checkpoint's numbers are stored, from the headers of its files.

The fact a newcomer gets wrong: most checkpoints are bfloat16, and read as float32 each rank holds a
copy of its own of twice the size; read as they are stored, ranks of one machine share the pages of
the file.
"""

from collections import Counter
from pathlib import Path
from typing import Literal

from components.backbones.loading import weights_folder
from components.backbones.quantization import quantization_of
from components.backbones.settings import BackboneConfig
from components.backbones.sources import stored_config
from components.backbones.weights import weight_files
from components.errors import BackboneError
from components.foreign_file import stored_tensors

Precision = Literal["fp32", "bf16"]
NAMES: dict[str, Precision] = {
    "F32": "fp32",
    "float32": "fp32",
    "BF16": "bf16",
    "bfloat16": "bf16",
}
"""As safetensors and config.json call them."""


def stored_precision(config: BackboneConfig) -> Precision:
    """That of most numbers, of a quantised checkpoint that which config.json names. Raises
    BackboneError where they are of another kind, float16 among them.
    """
    folder = weights_folder(config)
    found = _most(folder)
    if found in NAMES:
        return NAMES[found]
    raise BackboneError(
        f"training.precision stored: the weights of '{config.name_or_path}' are {found}, in which "
        "nothing is computed here. Set training.precision to fp32 (float16 fits into it exactly) "
        "or to bf16 (which rounds them to 8 bits)."
    )


def _most(folder: Path) -> str:
    numbers: Counter[str] = Counter()
    values = stored_config(folder)
    quantised = quantization_of(values) is not None
    for path in weight_files(folder):
        if path.suffix == ".safetensors" and not quantised:
            for tensor in stored_tensors(path).values():
                numbers[tensor.dtype] += tensor.numbers
    if numbers:
        return max(numbers, key=lambda dtype: numbers[dtype])
    # Torch files are not opened twice: their config.json says it since it is written with them.
    return str(values.get("dtype") or values.get("torch_dtype") or "of an unknown kind")
