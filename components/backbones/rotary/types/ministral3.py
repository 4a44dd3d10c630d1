"""Ministral 3: Mistral whose queries are scaled with their position."""

from components.backbones.rotary.model_type import ModelType, without_biases

MINISTRAL3 = ModelType(
    "ministral3",
    slides=True,
    scales_with_position=True,
    defaults={"head_dim": 128},
    biases=without_biases,
)
