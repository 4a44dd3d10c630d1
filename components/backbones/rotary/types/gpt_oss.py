"""gpt-oss: experts in every layer, a learnt sink in every softmax, every second layer local."""

from components.backbones.rotary.feed_forward import experts
from components.backbones.rotary.model_type import Biases, ModelType, Values


def biases(values: Values) -> Biases:
    """On unless it is switched off."""
    biased = bool(values.get("attention_bias", True))
    return Biases(biased, biased)


GPT_OSS = ModelType(
    "gpt_oss",
    has_sinks=True,
    masks_by_layer=True,
    defaults={
        "head_dim": 64,
        "sliding_window": 128,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
    },
    biases=biases,
    further=lambda values: values["num_attention_heads"] * values["num_hidden_layers"],
    feed_forward=lambda values, layer: experts(
        values, count=values["num_local_experts"], width=values["intermediate_size"], biased=True
    ),
)
