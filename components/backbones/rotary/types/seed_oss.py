"""Seed-OSS: Llama whose output projection has a switch of its own for its bias."""

from components.backbones.rotary.model_type import Biases, ModelType, Values


def biases(values: Values) -> Biases:
    """Two switches."""
    into, out = values.get("attention_bias", True), values.get("attention_out_bias", False)
    return Biases(bool(into), bool(out))


SEED_OSS = ModelType("seed_oss", defaults={"head_dim": 128}, biases=biases)
