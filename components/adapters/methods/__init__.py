"""Adapter methods: one file holds all facts of one. `METHODS` is the table, read when a method is
asked for, so that an entry added while a program runs is known everywhere at once.
"""

from typing import Annotated

from components.adapters.methods.adaptive_prefix_propagation import AdaptivePrefixPropagationConfig
from components.adapters.methods.adaptive_prefix_tuning import AdaptivePrefixTuningConfig
from components.adapters.methods.full_fine_tuning import FullFineTuningConfig
from components.adapters.methods.head_only import HeadOnlyConfig
from components.adapters.methods.kernel_prefix import KernelPrefixConfig
from components.adapters.methods.kernel_propagation import KernelPropagationConfig
from components.adapters.methods.lora import LoraConfig
from components.adapters.methods.method import MethodConfig, Setting
from components.adapters.methods.prefix_memory import PrefixMemoryConfig
from components.adapters.methods.prefix_propagation import PrefixPropagationConfig
from components.adapters.methods.prefix_tuning import PrefixTuningConfig
from components.adapters.methods.prompt_tuning import PromptTuningConfig
from components.adapters.methods.propagation_and_prefix_tuning import (
    PropagationAndPrefixTuningConfig,
)
from components.adapters.methods.san import SanConfig
from components.settings import Chosen

METHODS: dict[str, type[MethodConfig]] = {
    "prefix_propagation": PrefixPropagationConfig,
    "prefix_tuning": PrefixTuningConfig,
    "prompt_tuning": PromptTuningConfig,
    "propagation_and_prefix_tuning": PropagationAndPrefixTuningConfig,
    "head_only": HeadOnlyConfig,
    "full_fine_tuning": FullFineTuningConfig,
    "lora": LoraConfig,
    "adaptive_prefix_propagation": AdaptivePrefixPropagationConfig,
    "adaptive_prefix_tuning": AdaptivePrefixTuningConfig,
    "prefix_memory": PrefixMemoryConfig,
    "kernel_prefix": KernelPrefixConfig,
    "kernel_propagation": KernelPropagationConfig,
    "san": SanConfig,
}
"""Value of adapter.method -> its settings, which hold every fact of the method."""

ADAPTER_CONFIGS = METHODS
"""The name under which the table has always been public."""

AdapterConfig = Annotated[
    MethodConfig, Chosen("adapter", "method", "prefix_propagation", lambda: METHODS)
]
"""The section `adapter`: the settings of one method, chosen by its name."""

__all__ = ["ADAPTER_CONFIGS", "METHODS", "AdapterConfig", "MethodConfig", "Setting"]
