"""Phi-3, Phi-3.5 and Phi-4: queries, keys and values in one module, gate and up in another."""

from typing import TYPE_CHECKING, Any

from components.backbones.rotary.feed_forward import fused
from components.backbones.rotary.model_type import ModelType, without_biases

if TYPE_CHECKING:
    from torch import Tensor


def query(output_BSW: "Tensor", attention: Any) -> "Tensor":
    """The first part of query | key | value."""
    width = attention.config.num_attention_heads * attention.head_dim
    return output_BSW[..., :width].unflatten(-1, (-1, attention.head_dim))


PHI3 = ModelType(
    "phi3",
    slides=True,
    queries=(("qkv_proj", query),),
    lora_targets=("qkv_proj",),
    projections=lambda hidden, heads: {
        "qkv_proj": (hidden, heads.query_width + 2 * heads.key_value_width),
        "o_proj": (heads.query_width, hidden),
    },
    biases=without_biases,
    feed_forward=fused,
)
