"""In which numbers a backbone computes, and where."""

import torch
from torch import nn


def numbers_of(backbone: nn.Module) -> torch.Tensor:
    """An empty tensor of its numbers and on its device. Quantised weights are integers, and with
    ZeRO-3 an embedding has no weight to ask.
    """
    parameter = next(one for one in backbone.parameters() if one.is_floating_point())
    return parameter.new_empty(0)
