"""ModernBERT and mmBERT: query, key and value in one module, a window in two layers of three."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from components.backbones.rotary.feed_forward import FeedForward
from components.backbones.rotary.model_type import Biases, ModelType, Values, equal_heads

if TYPE_CHECKING:
    from torch import Tensor


def query(output_BSW: "Tensor", attention: Any) -> "Tensor":
    """The first of query | key | value."""
    return output_BSW.unflatten(-1, (3, -1, attention.head_dim))[:, :, 0]


def placed(attention: Any, key_BPK: "Tensor", value_BPK: "Tensor") -> AbstractContextManager[None]:
    """Into the one module's output: this attention takes no cache."""
    from components.backbones.rotary.attention import placed_in_projection

    return placed_in_projection(attention, key_BPK, value_BPK, module="Wqkv")


def norms(values: Values) -> int:
    """Two layer norms."""
    return 2 * (1 + bool(values.get("norm_bias", False)))


def outer_norms(values: Values) -> int:
    """Behind the embeddings and behind the last layer; the first layer lacks one."""
    return (2 - 1) * (1 + bool(values.get("norm_bias", False)))


def feed_forward(values: Values, layer: int) -> FeedForward:
    """Both inward projections in one module."""
    hidden, width = values["hidden_size"], values["intermediate_size"]
    return FeedForward(
        linear={"Wi": (hidden, 2 * width), "mlp.Wo": (width, hidden)},
        parameters=3 * hidden * width + (2 * width + hidden) * bool(values.get("mlp_bias", False)),
        width=width,
        inward=("Wi",),
        outward="mlp.Wo",
        is_fused=True,
    )


def biases(values: Values) -> Biases:
    """As `attention_bias` says."""
    biased = bool(values.get("attention_bias", False))
    return Biases(biased, biased)


MODERNBERT = ModelType(
    "modernbert",
    is_causal=False,
    attention="attn",
    heads=equal_heads,
    window="local_attention",
    defaults={"local_attention": 128},
    queries=(("Wqkv", query),),
    output="Wo",
    placed=placed,
    lora_targets=("Wqkv",),
    masks_by_layer=True,
    projections=lambda hidden, heads: {"Wqkv": (hidden, 3 * hidden), "attn.Wo": (hidden, hidden)},
    biases=biases,
    norms=norms,
    outer_norms=outer_norms,
    feed_forward=feed_forward,
)
