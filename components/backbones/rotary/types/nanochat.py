"""NanoChat: norms without weights, queries and keys normalised after they are rotated."""

from components.backbones.rotary.feed_forward import plain
from components.backbones.rotary.model_type import ModelType

NANOCHAT = ModelType(
    "nanochat",
    norms=lambda values: 0,
    norm_modules=2,
    normalises_heads=True,
    outer_norms=lambda values: 0,
    feed_forward=plain("fc1", "fc2", biased=lambda values: False),
)
