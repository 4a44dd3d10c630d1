"""Qwen3 with mixtures of experts in its sparse layers."""

from components.backbones.rotary.feed_forward import FeedForward, experts, gated
from components.backbones.rotary.model_type import Q_PROJ, ModelType, Values, by_head, norm_per_head


def number_of_experts(values: Values) -> int:
    """Under either of its names."""
    return int(values.get("num_local_experts") or values.get("num_experts") or 0)


def feed_forward(values: Values, layer: int) -> FeedForward:
    """Experts where the layer is sparse."""
    step = values.get("decoder_sparse_step") or 1
    dense = layer in (values.get("mlp_only_layers") or ()) or (layer + 1) % step
    if dense or not number_of_experts(values):
        return gated(values, layer)
    return experts(values, count=number_of_experts(values), width=values["moe_intermediate_size"])


QWEN3_MOE = ModelType(
    "qwen3_moe",
    slides=True,
    defaults={"num_experts_per_tok": 8, "moe_intermediate_size": 768},
    queries=(("q_norm", by_head), Q_PROJ),
    query_key_norm=norm_per_head,
    feed_forward=feed_forward,
)
