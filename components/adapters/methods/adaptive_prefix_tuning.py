"""Adaptive prefix-tuning: a trained factor per layer and prefix position, multiplied onto the
trained keys and values (APT, arXiv 2305.15212).

The factor starts at 1, so that an untrained gate changes nothing, and is stored beside the prefix
(`adapter.gate`): it shows which layers and positions the task uses.
"""

from torch import nn

from components.adapters.methods.prefix_tuning import PrefixTuning, new_prefix_tuning
from components.config.schema import AdaptivePrefixTuningConfig


def build(config: AdaptivePrefixTuningConfig, backbone: nn.Module, dropout: float) -> PrefixTuning:
    """A fresh prefix with gates of 1."""
    return new_prefix_tuning(config, backbone, dropout, gated=True)
