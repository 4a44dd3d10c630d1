"""Folders written by hand from the tables of components/adapters/README.md alone: logits and
gradients equal the naive dense reference, on the stock and the fast attention.

Windows are 8 tokens: a prefix of 13 is longer. Tolerance 1e-5: float32 against float64 over two
layers. Multiple choice has its own such test beside its laws.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from components.adapters import AdaptedModel, load_adapter
from tests.components.adapters.dense_longformer import Parts
from tests.components.adapters.harness import BOTH, build, check_against_dense

L, D, C, R = 2, 32, 3, 6
HEAD = {
    "head.dense.weight": (D, D),
    "head.dense.bias": (D,),
    "head.out_proj.weight": (C, D),
    "head.out_proj.bias": (C,),
}
PREFIXES = {"prefix_propagation": ("prefix",), "prefix_tuning": ("prefix_key", "prefix_value")}
PREFIXES["propagation_and_prefix_tuning"] = (
    PREFIXES["prefix_propagation"] + PREFIXES["prefix_tuning"]
)


def network(name: str, length: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        "embedding": (length, D),
        "down.weight": (R, D),
        "down.bias": (R,),
        "up.weight": (width, R),
        "up.bias": (width,),
    }
    return {f"adapter.{name}.{part}": shape for part, shape in shapes.items()}


def shapes_of(method: str, length: int, reparametrised: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    if not reparametrised:
        return {f"adapter.{name}": (L, length, D) for name in PREFIXES[method]}
    if "prefix" in PREFIXES[method]:
        shapes |= network("reparametrization", length, L * D)
    if "prefix_key" in PREFIXES[method]:
        shapes |= network("key_value_reparametrization", length, 2 * L * D)
    return shapes


def written(
    folder: Path, method: str, shapes: dict[str, tuple[int, ...]], **fields: Any
) -> AdaptedModel:
    draw = torch.Generator().manual_seed(17)
    save_file(
        {name: torch.randn(shape, generator=draw) * 0.3 for name, shape in shapes.items()},
        folder / "adapter_model.safetensors",
    )
    config = {
        "format": 1,
        "method": method,
        "head": {"task": "classification", "num_labels": C, "pooling": "cls"},
        **fields,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return load_adapter(build("longformer"), folder)


def parts_of(leaves: dict[str, Tensor], *, length: int, released_rows: int = 0) -> Parts:
    """What the README says about the tensors, and no code of the project's."""
    tensors = {name.removeprefix("adapter."): leaf for name, leaf in leaves.items()}

    def produced(name: str) -> Tensor:
        hidden_PR = torch.tanh(
            tensors[f"{name}.embedding"] @ tensors[f"{name}.down.weight"].T
            + tensors[f"{name}.down.bias"]
        )
        return hidden_PR @ tensors[f"{name}.up.weight"].T + tensors[f"{name}.up.bias"]

    if "reparametrization.embedding" in tensors:
        flat_PW = produced("reparametrization")
        tensors["prefix"] = torch.stack(
            [flat_PW[:, layer * D : (layer + 1) * D] for layer in range(L)]
        )
    if "key_value_reparametrization.embedding" in tensors:
        flat_PW = produced("key_value_reparametrization")
        tensors["prefix_key"] = torch.stack(
            [flat_PW[:, 2 * layer * D : (2 * layer + 1) * D] for layer in range(L)]
        )
        tensors["prefix_value"] = torch.stack(
            [flat_PW[:, (2 * layer + 1) * D : (2 * layer + 2) * D] for layer in range(L)]
        )
    prefix, key, value = (tensors.get(name) for name in ("prefix", "prefix_key", "prefix_value"))
    return Parts(
        offset=length, prefix_LPD=prefix, key_LPD=key, value_LPD=value, released_rows=released_rows
    )


@pytest.mark.parametrize("reparametrised", [False, True], ids=["stored", "network"])
@pytest.mark.parametrize("length", [4, 13])
@pytest.mark.parametrize("method", PREFIXES)
def test_folder_equals_the_naive_dense_reference(
    method: str, length: int, reparametrised: bool, tmp_path: Path
) -> None:
    shapes = shapes_of(method, length, reparametrised) | HEAD
    model = written(tmp_path, method, shapes)
    token_types = {"backbone.embeddings.token_type_embeddings.weight"}
    assert set(model.trainable_parameters()) == set(shapes) | token_types
    check_against_dense(model, lambda leaves: parts_of(leaves, length=length), attentions=BOTH)


@pytest.mark.parametrize("method", ["prefix_tuning", "propagation_and_prefix_tuning"])
def test_folder_with_the_released_indexing_equals_the_naive_dense_reference(
    method: str, tmp_path: Path
) -> None:
    types = {"backbone.embeddings.token_type_embeddings.weight": (1, D)}
    model = written(
        tmp_path,
        method,
        shapes_of(method, 13, False) | HEAD | types,
        released_indexing=True,
        prefix_length=13,
    )
    check_against_dense(model, lambda leaves: parts_of(leaves, length=13, released_rows=13))
