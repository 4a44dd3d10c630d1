"""Mistral; its early versions have a sliding window in every layer."""

from components.backbones.rotary.model_type import ModelType, without_biases

MISTRAL = ModelType(
    "mistral",
    slides=True,
    biases=without_biases,
)
