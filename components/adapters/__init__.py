"""Adapters: the public surface for Python users.

model = adapt(backbone, PrefixPropagationConfig(prefix_length=8),
ClassificationHeadConfig(num_labels=2, pooling="prefix"))
out = model(input_ids=..., attention_mask=..., labels=...)      # out.loss, out.logits
save_adapter(model, folder);  model = load_adapter(backbone, folder)

Settings are here at once; what needs torch is imported when it is asked for, so that a
configuration can be read and planned without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from components.adapters.methods import METHODS
from components.adapters.methods.adaptive_prefix_propagation import AdaptivePrefixPropagationConfig
from components.adapters.methods.adaptive_prefix_tuning import AdaptivePrefixTuningConfig
from components.adapters.methods.full_fine_tuning import FullFineTuningConfig
from components.adapters.methods.head_only import HeadOnlyConfig
from components.adapters.methods.kernel_prefix import KernelPrefixConfig
from components.adapters.methods.kernel_propagation import KernelPropagationConfig
from components.adapters.methods.lora import LoraConfig
from components.adapters.methods.prefix_memory import PrefixMemoryConfig
from components.adapters.methods.prefix_propagation import PrefixPropagationConfig
from components.adapters.methods.prefix_tuning import PrefixTuningConfig
from components.adapters.methods.prompt_tuning import PromptTuningConfig
from components.adapters.methods.propagation_and_prefix_tuning import (
    PropagationAndPrefixTuningConfig,
)
from components.adapters.methods.san import SanConfig
from components.tasks import TASKS
from components.tasks.classification import ClassificationHeadConfig
from components.tasks.label_words import LabelWordsHeadConfig
from components.tasks.language_modelling import LanguageModellingHeadConfig
from components.tasks.multiple_choice import MultipleChoiceHeadConfig

if TYPE_CHECKING:
    from components.adapters.artifact import (
        load_adapter,
        save_adapter,
        write_artifact,
    )
    from components.adapters.model import AdaptedModel, AdaptedOutput, adapt
    from components.adapters.reading import read_adapter_config

ADAPTERS = METHODS
"""adapter.method -> its settings, which build it."""
HEADS = TASKS
"""Task -> everything particular to it, its head among that."""

_WITH_TORCH = {
    "AdaptedModel": "model",
    "AdaptedOutput": "model",
    "adapt": "model",
    "load_adapter": "artifact",
    "read_adapter_config": "reading",
    "save_adapter": "artifact",
    "write_artifact": "artifact",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)


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
    "LabelWordsHeadConfig",
    "LanguageModellingHeadConfig",
    "LoraConfig",
    "MultipleChoiceHeadConfig",
    "PrefixMemoryConfig",
    "PrefixPropagationConfig",
    "PrefixTuningConfig",
    "PromptTuningConfig",
    "PropagationAndPrefixTuningConfig",
    "SanConfig",
    "adapt",
    "load_adapter",
    "read_adapter_config",
    "save_adapter",
    "write_artifact",
]
