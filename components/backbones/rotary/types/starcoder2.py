"""StarCoder2: layer norms with biases, a plain feed-forward, a sliding window in every layer."""

from components.backbones.rotary.feed_forward import plain
from components.backbones.rotary.model_type import Biases, ModelType, Values


def biased(values: Values) -> bool:
    """As `use_bias` says, which is on unless it is switched off."""
    return bool(values.get("use_bias", True))


STARCODER2 = ModelType(
    "starcoder2",
    slides=True,
    biases=lambda values: Biases(biased(values), biased(values)),
    norms=lambda values: 4,
    norm_modules=2,
    layer_norms=True,
    outer_norms=lambda values: 2,
    feed_forward=plain("c_fc", "c_proj", biased=biased),
)
