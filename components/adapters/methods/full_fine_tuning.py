"""Full fine-tuning: every weight of the backbone is trained, and stored in the artifact under
`backbone.<its name>`.

The fact a newcomer gets wrong: the backbone object itself changes. Within a training session its
starting weights are kept on the CPU and put back after the trial.
"""

from typing import TYPE_CHECKING, Literal

from components.adapters.methods.method import NoPrefix, Setting
from components.backbones.layer_memory import Kept
from components.backbones.quantization import quantization_fault
from components.backbones.shape import BackboneShape
from components.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class FullFineTuningConfig(NoPrefix):
    """All weights of the backbone are trained."""

    method: Literal["full_fine_tuning"] = "full_fine_tuning"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        """No tensor of its own. Raises ConfigError for a backbone that is not float32, or that
        stays quantised.
        """
        import torch

        from components.adapters.modules.no_adapter import NoAdapter

        parameters = {
            name: parameter
            for name, parameter in backbone.named_parameters()
            if not name.startswith("pooler.")
        }
        fault = quantization_fault(
            backbone.config.to_dict(),  # type: ignore[union-attr, operator]
            stage=0,
            all_weights=True,
            method=self.method,
        )
        if fault is not None:
            raise ConfigError(fault)
        if any(parameter.dtype != torch.float32 for parameter in parameters.values()):
            raise ConfigError(
                "adapter.method full_fine_tuning needs training.precision=fp32: it trains the "
                "backbone's weights themselves, and bf16 rounds small updates away."
            )
        return NoAdapter(tuple(parameters))

    def kept(self, shape: BackboneShape) -> Kept:
        return Kept(all_weights=True, whole_last_layer=True)

    def trained_parameters(self, shape: BackboneShape) -> int:
        return shape.parameters

    def incompatibility(self, setting: Setting) -> str | None:
        if setting.precision in (None, "fp32"):
            return None
        return (
            "adapter.method full_fine_tuning needs training.precision fp32: bf16 rounds small "
            "updates away"
        )
