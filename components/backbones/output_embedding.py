"""The frozen output embedding of a causal decoder's checkpoint: what its language-model head
multiplies the last hidden states with. Backbones are loaded without it.

The facts a newcomer gets wrong: an output embedding that is stored counts, tied or not
(transformers ties the two only where they are equal or one is missing); and some model types scale
or cap logits behind the product (tests/components/backbones/rotary compares every type with its
own model).
Shapes: V tokens of the vocabulary, C of them, D hidden.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from components.backbones.families import family_of
from components.backbones.sources import stored_config
from components.backbones.text_model import is_text_tensor
from components.backbones.weights import FLOATS, weight_files
from components.errors import BackboneError
from components.foreign_file import ForeignFileError, StoredTensor, stored_tensors

HEADS = ("lm_head", "embed_out")
"""Names of the output embedding's module in checkpoints."""
FIX = "Give the folder of the whole causal language model, as save_pretrained writes it."


@dataclass(frozen=True)
class OutputEmbedding:
    """Rows of the language-model head in the backbone's numbers: weight (C, D) and bias (C), and
    what the model type does to the products: logits = cap tanh(scale products / cap).
    """

    weight_CD: Tensor
    bias_C: Tensor | None
    scale: float = 1.0
    cap: float | None = None


def output_embedding(backbone: Any, token_ids: Sequence[int] | None = None) -> OutputEmbedding:
    """The rows of these tokens, or of all V (None), in the numbers that the backbone computes in;
    read from the checkpoint that it was loaded from, no more than is asked for. All those of a tied
    head are the live input embedding itself, where it is whole.

    Raises BackboneError: an encoder, a checkpoint without such a head or with a quantised one, an
    id beyond the vocabulary.
    """
    family = family_of(backbone)
    if family.rows_see_all_text:
        raise BackboneError(
            f"a {family.name} has no language-model head that says the next word. Set "
            "backbone.family decoder."
        )
    config = backbone.config
    weight_CD, bias_C = _rows(backbone, token_ids)
    cap = _own(config, "final_logit_softcapping")
    return OutputEmbedding(
        weight_CD.to(backbone.dtype),
        None if bias_C is None else bias_C.to(backbone.dtype),
        scale=(_own(config, "logit_scale") or 1.0) / (_own(config, "logits_scaling") or 1.0),
        cap=cap,
    )


def _own(config: Any, name: str) -> float | None:
    """A setting of this model type: of another type's the model takes no notice."""
    value = getattr(config, name, None) if hasattr(type(config), name) else None
    return None if value is None else float(value)


def formed(products: Tensor, *, scale: float, cap: float | None) -> Tensor:
    """Logits of the products of hidden states and rows, of any shape."""
    logits = products if scale == 1.0 else scale * products
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _rows(backbone: Any, token_ids: Sequence[int] | None) -> tuple[Tensor, Tensor | None]:
    name = str(getattr(backbone.config, "_name_or_path", None) or "")
    folder = Path(name)
    if not name or not (folder / "config.json").is_file():
        return _live_rows(backbone, token_ids), None
    stored = _stored(folder)
    head, bias = (
        _one_of(stored, tuple(f"{each}.{kind}" for each in HEADS), folder)
        for kind in ("weight", "bias")
    )
    bias_C = None if bias is None else _read(stored, bias, token_ids)
    if head is not None:
        return _read(stored, _checked(stored, head, backbone, token_ids), token_ids), bias_C
    if not _is_tied(backbone, folder):
        raise _without_head(name)
    if token_ids is None and backbone.get_input_embeddings().weight.ndim == 2:
        return backbone.get_input_embeddings().weight.detach(), bias_C
    values = stored_config(folder)
    text = {each: place for each, place in stored.items() if is_text_tensor(each, values)}
    table = _one_of(text, (f"{_name_of_input_embedding(backbone)}.weight",), folder)
    if table is None:
        return _live_rows(backbone, token_ids), bias_C
    return _read(text, _checked(text, table, backbone, token_ids), token_ids), bias_C


def _is_tied(backbone: Any, folder: Path) -> bool:
    """As the whole model says; of several modalities, its text part where it does not."""
    told = stored_config(folder).get("tie_word_embeddings")
    return bool(backbone.config.tie_word_embeddings if told is None else told)


def _live_rows(backbone: Any, token_ids: Sequence[int] | None) -> Tensor:
    """Those of a tied head, where no checkpoint's safetensors hold them."""
    weight_VD = backbone.get_input_embeddings().weight
    if not backbone.config.tie_word_embeddings or weight_VD.ndim != 2:
        raise _without_head(getattr(backbone.config, "_name_or_path", "") or "made in memory")
    weight_VD = weight_VD.detach()
    if token_ids is None:
        return weight_VD
    _check_ids(token_ids, len(weight_VD))
    return weight_VD[list(token_ids)]


def _without_head(name: str) -> BackboneError:
    return BackboneError(
        f"the backbone '{name}' has no language-model head: its safetensors hold no "
        f"{HEADS[0]}.weight, and it is not tied to the input embedding (tie_word_embeddings). {FIX}"
    )


_Stored = Mapping[str, tuple[Path, StoredTensor]]


def _stored(folder: Path) -> dict[str, tuple[Path, StoredTensor]]:
    """Where each tensor of the checkpoint's safetensors is, none of it read."""
    found: dict[str, tuple[Path, StoredTensor]] = {}
    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            continue
        try:
            found |= {name: (path, each) for name, each in stored_tensors(path).items()}
        except ForeignFileError as error:
            raise BackboneError(f"{path} {error}.") from error
    return found


def _one_of(stored: _Stored, ends: tuple[str, ...], folder: Path) -> str | None:
    """The one tensor with such a name, or such an end of it."""
    dotted = tuple(f".{end}" for end in ends)
    found = [name for name in stored if name in ends or name.endswith(dotted)]
    if len(found) > 1:
        raise BackboneError(
            f"'{folder}' holds {' and '.join(sorted(found)[:2])}: which is the language model's "
            f"cannot be told. {FIX}"
        )
    return found[0] if found else None


def _name_of_input_embedding(backbone: Any) -> str:
    table = backbone.get_input_embeddings()
    return next(name for name, module in backbone.named_modules() if module is table)


def _checked(stored: _Stored, name: str, backbone: Any, token_ids: Sequence[int] | None) -> str:
    path, tensor = stored[name]
    hidden = int(backbone.config.hidden_size)
    if tensor.dtype not in FLOATS:
        raise BackboneError(
            f"{path}: {name} is {tensor.dtype}: a quantised language-model head is not read. Give "
            "the checkpoint in float32, float16 or bfloat16."
        )
    if len(tensor.shape) != 2 or tensor.shape[1] != hidden:
        raise BackboneError(
            f"{path}: {name} has shape {list(tensor.shape)}, expected [tokens, {hidden}] "
            f"(hidden_size in config.json). {FIX}"
        )
    _check_ids(token_ids or (), tensor.shape[0])
    return name


def _check_ids(token_ids: Sequence[int], rows: int) -> None:
    beyond = [token for token in token_ids if not 0 <= token < rows]
    if beyond:
        raise BackboneError(
            f"token {beyond[0]} is beyond the {rows} rows of the language-model head. Give the "
            "backbone that the tokens belong to."
        )


def _read(stored: _Stored, name: str, token_ids: Sequence[int] | None) -> Tensor:
    path, _ = stored[name]
    try:
        with safe_open(path, "pt") as file:
            if token_ids is None:
                whole: Tensor = file.get_tensor(name)
                return whole
            part = file.get_slice(name)
            return torch.cat([part[token : token + 1] for token in token_ids])
    except (OSError, SafetensorError) as error:
        raise BackboneError(f"{path} is not readable as safetensors: {error}.") from error
