"""Adapters: the public surface for Python users.

model = adapt(backbone, PrefixPropagationConfig(prefix_length=8),
ClassificationHeadConfig(num_labels=2, pooling="prefix"))
out = model(input_ids=..., attention_mask=..., labels=...)      # out.loss, out.logits
save_adapter(model, folder);  model = load_adapter(backbone, folder)
"""

from components.adapters.artifact import (
    load_adapter,
    read_adapter_config,
    save_adapter,
    write_artifact,
)
from components.adapters.model import ADAPTERS, HEADS, AdaptedModel, AdaptedOutput, adapt
from components.config.schema import (
    AdaptivePrefixPropagationConfig,
    AdaptivePrefixTuningConfig,
    ClassificationHeadConfig,
    FullFineTuningConfig,
    HeadOnlyConfig,
    KernelPrefixConfig,
    KernelPropagationConfig,
    LoraConfig,
    MultipleChoiceHeadConfig,
    PrefixMemoryConfig,
    PrefixPropagationConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    PropagationAndPrefixTuningConfig,
)

__all__ = [
    "ADAPTERS",
    "HEADS",
    "AdaptedModel",
    "AdaptedOutput",
    "AdaptivePrefixPropagationConfig",
    "AdaptivePrefixTuningConfig",
    "ClassificationHeadConfig",
    "FullFineTuningConfig",
    "HeadOnlyConfig",
    "KernelPrefixConfig",
    "KernelPropagationConfig",
    "LoraConfig",
    "MultipleChoiceHeadConfig",
    "PrefixMemoryConfig",
    "PrefixPropagationConfig",
    "PrefixTuningConfig",
    "PromptTuningConfig",
    "PropagationAndPrefixTuningConfig",
    "adapt",
    "load_adapter",
    "read_adapter_config",
    "save_adapter",
    "write_artifact",
]
