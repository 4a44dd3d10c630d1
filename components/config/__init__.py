"""Configuration of experiments: loading, overrides, the search space. An experiment is composed of
its owners' settings (backbones, data, tasks, methods); what belongs to no other owner is here.
Imports nothing heavier than pydantic, PyYAML and numpy.
"""

from components.adapters.methods import ADAPTER_CONFIGS, AdapterConfig
from components.adapters.methods.prefix_propagation import PrefixPropagationConfig
from components.backbones.settings import BackboneConfig
from components.config.experiment import ExperimentConfig, TrainConfig
from components.config.hashes import config_sha256
from components.config.loading import load_experiment
from components.config.space import trial_config
from components.data.settings import DataConfig
from components.settings import resolved, validate
from components.tasks import HeadConfig
from components.tasks.classification import ClassificationHeadConfig

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
