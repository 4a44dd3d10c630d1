"""GLM-4: four norms, gate and up in one module."""

from components.backbones.rotary.feed_forward import fused
from components.backbones.rotary.model_type import ModelType, only_into_attention

GLM4 = ModelType(
    "glm4",
    defaults={"head_dim": 128},
    biases=only_into_attention,
    norms=lambda values: 4,
    feed_forward=fused,
)
