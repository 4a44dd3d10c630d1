"""Full fine-tuning: every weight of the backbone is trained, and stored in the artifact under
`backbone.<its name>`.

The fact a newcomer gets wrong: the backbone object itself changes. Within a training session its
starting weights are kept on the CPU and put back after the trial.
"""

import torch
from torch import nn

from components.adapters.methods.head_only import NoAdapter
from components.config.schema import FullFineTuningConfig
from components.errors import ConfigError


def build(config: FullFineTuningConfig, backbone: nn.Module, dropout: float) -> NoAdapter:
    """No tensor of its own. Raises ConfigError for a backbone that is not float32: small updates
    would be rounded away.
    """
    parameters = {
        name: parameter
        for name, parameter in backbone.named_parameters()
        if not name.startswith("pooler.")
    }
    if any(parameter.dtype != torch.float32 for parameter in parameters.values()):
        raise ConfigError(
            "adapter.method full_fine_tuning needs training.precision=fp32: it trains the "
            "backbone's weights themselves, and bf16 rounds small updates away."
        )
    return NoAdapter(tuple(parameters))
