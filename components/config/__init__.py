"""Configuration: schema, loading, overrides and the search space. Imports nothing heavier than
pydantic and PyYAML.
"""

from components.config.loading import config_sha256, load_experiment, resolved, validate
from components.config.schema import (
    ADAPTER_CONFIGS,
    AdapterConfig,
    BackboneConfig,
    ClassificationHeadConfig,
    DataConfig,
    ExperimentConfig,
    HeadConfig,
    PrefixPropagationConfig,
    TrainConfig,
)
from components.config.space import trial_config

__all__ = [
    "ADAPTER_CONFIGS",
    "AdapterConfig",
    "BackboneConfig",
    "ClassificationHeadConfig",
    "DataConfig",
    "ExperimentConfig",
    "HeadConfig",
    "PrefixPropagationConfig",
    "TrainConfig",
    "config_sha256",
    "load_experiment",
    "resolved",
    "trial_config",
    "validate",
]
