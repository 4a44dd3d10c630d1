"""Adapted models of every listed model type and of further forms of some, on tiny backbones."""

from typing import Any

import pytest
import torch
from torch import Tensor

from components.adapters import AdaptedModel, ClassificationHeadConfig, adapt
from components.adapters.methods import ADAPTER_CONFIGS
from components.backbones.rotary.types import MODEL_TYPES
from tests.components.backbones.rotary.tiny import VOCABULARY, tiny_model

P, LENGTHS = 3, (19, 11)
TOLERANCE = 2e-5
"""Float32, four layers: the order of sums differs with the width of a batch."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in MODEL_TYPES},
    "mistral without a window": ("mistral", {"sliding_window": None}),
    "qwen3 with a window": ("qwen3", {"use_sliding_window": True, "max_window_layers": 2}),
    "phi with normalised queries": ("phi", {"qk_layernorm": True}),
    "gpt_neox, one part after the other": ("gpt_neox", {"use_parallel_residual": False}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "phi3 with longrope": (
        "phi3",
        {
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.5, 2.0, 2.5],
                "long_factor": [4.0, 8.0, 12.0, 16.0],
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "llama with dynamic scaling": (
        "llama",
        {
            "max_position_embeddings": 16,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
        },
    ),
    "qwen2 with YaRN": (
        "qwen2",
        {
            "max_position_embeddings": 16,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "modernbert with biases": ("modernbert", {"norm_bias": True, "attention_bias": True}),
}

each_variant = pytest.mark.parametrize("variant", VARIANTS)

METHODS: dict[str, dict[str, Any]] = {
    "prefix_propagation": {"prefix_length": P},
    "adaptive_prefix_propagation": {"prefix_length": P},
    "prefix_tuning": {"prefix_length": P},
    "adaptive_prefix_tuning": {"prefix_length": P},
    "propagation_and_prefix_tuning": {"prefix_length": P},
    "prompt_tuning": {"prefix_length": P},
    "prefix_memory": {},
    "kernel_prefix": {"prefix_length": P},
    "lora": {"rank": 2},
    "san": {},
    "full_fine_tuning": {},
    "head_only": {},
}


UNCHAINED = (
    "qwen3_moe",
    "mixtral",
    "gpt_oss",
    "gpt_neox",
    "phi",
    "phi with normalised queries",
    "cohere2",
    "llama4_text",
)
"""With experts, or with a feed-forward part beside the attention: san refuses them."""
CHAINED = [variant for variant in VARIANTS if variant not in UNCHAINED]
PAIRS = [
    (variant, method)
    for variant in VARIANTS
    for method in METHODS
    if method != "san" or variant in CHAINED
]


def backbone_of(variant: str) -> Any:
    model_type, changes = VARIANTS[variant]
    return tiny_model(model_type, **changes)


def adapted(
    variant: str, method: str = "prefix_propagation", *, pooling: Any = "last", **settings: Any
) -> AdaptedModel:
    """Every trained value random, so that nothing is zero by initialisation."""
    config = ADAPTER_CONFIGS[method].model_validate(METHODS[method] | settings)
    head = ClassificationHeadConfig(num_labels=3, pooling=pooling)
    model = adapt(backbone_of(variant), config, head).eval()
    draw = torch.Generator().manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        if name.startswith("adapter."):
            with torch.no_grad():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return model


def documents() -> tuple[list[list[int]], Tensor, Tensor]:
    """Texts, and the same padded on the right."""
    draw = torch.Generator().manual_seed(2)
    texts = [torch.randint(3, VOCABULARY, (n,), generator=draw).tolist() for n in LENGTHS]
    return texts, *padded(texts, left=False)


def padded(texts: list[list[int]], *, left: bool) -> tuple[Tensor, Tensor]:
    width = max(len(text) for text in texts)
    rows, masks = [], []
    for text in texts:
        gap = [0] * (width - len(text))
        ones = [1] * len(text)
        rows.append(gap + text if left else text + gap)
        masks.append(gap + ones if left else ones + gap)
    return torch.tensor(rows), torch.tensor(masks)


def let_layers_recompute(model: AdaptedModel) -> None:
    """Switch gradient checkpointing on."""
    backbone: Any = model.backbone
    backbone.gradient_checkpointing_enable({"use_reentrant": False})
