"""Adapted models of every method on tiny backbones, and the naive dense reference for each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from components.adapters import (
    AdaptedModel,
    ClassificationHeadConfig,
    adapt,
)
from components.adapters.methods import ADAPTER_CONFIGS
from tests.components.adapters.dense_longformer import Parts
from tests.components.adapters.harness import (
    build,
    check_against_dense,
    documents,
    randomise,
)

ROUNDING = 1e-5


L, D, C, H, E, BACKBONE_TYPES, P, R, F = 2, 32, 3, 4, 8, 32, 5, 3, 48


KEY_VALUE = {"longformer": 32, "llama": 16, "qwen3": 16}


TRAINED_WITH_PREFIX = {"longformer": BACKBONE_TYPES, "llama": 0, "qwen3": 0}


KINDS = tuple(KEY_VALUE)


HEAD = D * D + D + D * C + C


LORA_MATRICES = {
    "longformer": 4 * (32 + 32),
    "llama": (32 + 32) + (32 + 16),
    "qwen3": (32 + 32) + (32 + 16),
}


METHODS: dict[str, dict[str, Any]] = {
    "prefix_propagation": {"prefix_length": P},
    "prefix_tuning": {"prefix_length": P},
    "prompt_tuning": {"prefix_length": P},
    "propagation_and_prefix_tuning": {"prefix_length": P},
    "head_only": {},
    "full_fine_tuning": {},
    "lora": {"rank": R, "alpha": 6.0},
    "adaptive_prefix_propagation": {"prefix_length": P},
    "adaptive_prefix_tuning": {"prefix_length": P},
    "prefix_memory": {},
    "kernel_prefix": {"prefix_length": P, "kernel": "rbf", "lengthscale": 2.0},
    "kernel_propagation": {"prefix_length": P, "kernel": "polynomial"},
    "san": {},
}


ONLY_LONGFORMER = ("kernel_propagation",)


PAIRS = [
    (method, kind)
    for method in METHODS
    for kind in KINDS
    if kind == "longformer" or method not in ONLY_LONGFORMER
]


PARAMETERS: dict[str, Callable[[str], int]] = {
    "prefix_propagation": lambda kind: L * P * D + TRAINED_WITH_PREFIX[kind],
    "prefix_tuning": lambda kind: 2 * L * P * KEY_VALUE[kind] + TRAINED_WITH_PREFIX[kind],
    "prompt_tuning": lambda kind: P * D,
    "propagation_and_prefix_tuning": lambda kind: (
        L * P * D + 2 * L * P * KEY_VALUE[kind] + TRAINED_WITH_PREFIX[kind]
    ),
    "head_only": lambda kind: 0,
    "full_fine_tuning": lambda kind: build(kind).num_parameters(),
    "lora": lambda kind: L * R * LORA_MATRICES[kind],
    "adaptive_prefix_propagation": lambda kind: L * P * D + L * P + TRAINED_WITH_PREFIX[kind],
    "adaptive_prefix_tuning": lambda kind: (
        2 * L * P * KEY_VALUE[kind] + L * P + TRAINED_WITH_PREFIX[kind]
    ),
    "prefix_memory": lambda kind: L * H * E * E,
    "kernel_prefix": lambda kind: 2 * L * P * KEY_VALUE[kind] + L + TRAINED_WITH_PREFIX[kind],
    "kernel_propagation": lambda kind: L * P * D + L + TRAINED_WITH_PREFIX[kind],
    "san": lambda kind: L * (2 * D + F),
}


def new(
    method: str, kind: str, *, pooling: Any = "mean", backbone: Any = None, **changes: Any
) -> AdaptedModel:
    config = ADAPTER_CONFIGS[method].model_validate(
        {"method": method, **METHODS[method], **changes}
    )
    return adapt(
        backbone or build(kind), config, ClassificationHeadConfig(num_labels=C, pooling=pooling)
    )  # type: ignore[arg-type]


def large(method: str, kind: str, **changes: Any) -> AdaptedModel:
    """With large random values in everything that is trained (full fine-tuning: in the head; the
    backbone's are large already).
    """
    model = new(method, kind, **changes)
    randomise(model, only="head." if method == "full_fine_tuning" else "")
    return model


def answers(model: AdaptedModel, **changes: Any) -> Tensor:
    _, ids, mask = documents(model.backbone.config.pad_token_id)
    with torch.no_grad():
        logits: Tensor = model.eval()(ids, mask, **changes).logits
    return logits


def dense_parts(method: str, leaves: dict[str, Tensor], config: Any) -> Parts:
    adapter = {
        name.removeprefix("adapter."): leaf
        for name, leaf in leaves.items()
        if name.startswith("adapter.")
    }
    gate = adapter["gate"][..., None] if "gate" in adapter else 1.0
    prefix, key, value = (
        adapter[name] * gate if name in adapter else None
        for name in ("prefix", "prefix_key", "prefix_value")
    )
    return Parts(
        offset=config.prefix_length,
        prefix_LPD=prefix,
        prompt_PD=adapter.get("prompt"),
        key_LPD=key,
        value_LPD=value,
        released_rows=config.prefix_length if getattr(config, "released_indexing", False) else 0,
        kernel=getattr(config, "kernel", None),
        alpha_L=adapter.get("alpha"),
        lengthscale=getattr(config, "lengthscale", 1.0),
        memory_LHEE=adapter.get("memory"),
        scales=(adapter["attention_scale"], adapter["up_scale"], adapter["down_scale"])
        if "up_scale" in adapter
        else None,
    )


def against_dense(model: AdaptedModel, *, attentions: tuple[str, ...] = ("stock",)) -> None:
    check_against_dense(
        model,
        lambda leaves: dense_parts(model.adapter_config.method, leaves, model.adapter_config),
        attentions=attentions,
    )
