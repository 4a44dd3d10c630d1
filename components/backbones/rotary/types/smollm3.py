"""SmolLM3: Llama with layers that do not rotate."""

from components.backbones.rotary.model_type import ModelType

SMOLLM3 = ModelType("smollm3", masks_by_layer=True)
