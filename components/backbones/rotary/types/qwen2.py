"""Qwen2 and Qwen2.5: biases on queries, keys and values alone."""

from components.backbones.rotary.model_type import Biases, ModelType

QWEN2 = ModelType(
    "qwen2",
    masks_by_layer=True,
    biases=lambda values: Biases(query_key_value=True),
)
