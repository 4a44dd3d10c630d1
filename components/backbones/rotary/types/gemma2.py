"""Gemma 2: four norms, sliding windows in every second layer, attention scores with a soft cap."""

from components.backbones.rotary.model_type import ModelType

GEMMA2 = ModelType(
    "gemma2",
    masks_by_layer=True,
    defaults={"head_dim": 256, "sliding_window": 4096},
    norms=lambda values: 4,
)
