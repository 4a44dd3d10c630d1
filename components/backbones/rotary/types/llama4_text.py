"""Llama 4: chunked attention in three layers of four, experts beside a shared feed-forward."""

from dataclasses import replace

from components.backbones.rotary.feed_forward import (
    FeedForward,
    experts,
    gated,
    with_shared,
)
from components.backbones.rotary.model_type import ModelType, Values


def feed_forward(values: Values, layer: int) -> FeedForward:
    """Experts in the layers that config.json names, or in every interleave_moe_layer_step-th."""
    sparse, step = values.get("moe_layers"), values.get("interleave_moe_layer_step") or 1
    if layer not in sparse if sparse is not None else (layer + 1) % step:
        dense = gated({**values, "intermediate_size": values["intermediate_size_mlp"]}, layer)
        # A layer calls it feed_forward, with or without experts.
        return replace(dense, inward=(), outward="")
    count, width = values["num_local_experts"], values["intermediate_size"]
    # transformers runs every expert over every row.
    routed = replace(experts(values, count=count, width=width), width=count * width)
    return with_shared(routed, gated(values, layer))


LLAMA4_TEXT = ModelType(
    "llama4_text",
    masks_by_layer=True,
    defaults={
        "head_dim": 128,
        "intermediate_size_mlp": 16384,
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
        "attention_chunk_size": 8192,
    },
    feed_forward=feed_forward,
)
