"""EuroBERT: Llama that looks both ways."""

from components.backbones.rotary.model_type import ModelType

EUROBERT = ModelType("eurobert", is_causal=False)
