"""Mixtral: a mixture of experts in every layer."""

from components.backbones.rotary.feed_forward import experts
from components.backbones.rotary.model_type import ModelType, without_biases

MIXTRAL = ModelType(
    "mixtral",
    slides=True,
    defaults={"num_local_experts": 8, "num_experts_per_tok": 2},
    biases=without_biases,
    feed_forward=lambda values, layer: experts(
        values, count=values["num_local_experts"], width=values["intermediate_size"]
    ),
)
