"""Adaptive prefix-propagation: a trained factor per layer and prefix position, multiplied onto the
prefix rows (APT, arXiv 2305.15212).

The factor starts at 1, so that an untrained gate changes nothing, and is stored beside the prefix
(`adapter.gate`): it shows which layers and positions the task uses.
"""

from torch import nn

from components.adapters.methods.prefix_propagation import PrefixPropagation, new_propagation
from components.config.schema import AdaptivePrefixPropagationConfig


def build(
    config: AdaptivePrefixPropagationConfig, backbone: nn.Module, dropout: float
) -> PrefixPropagation:
    """A fresh prefix with gates of 1."""
    return new_propagation(config, backbone, dropout, gated=True)
