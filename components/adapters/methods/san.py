"""SAN (Dai et al., ICML 2025, arXiv 2409.06706): a trained scale for every output of a linear
module, multiplied onto the output and onto the columns by which the next linear module takes it.

    attention's output projection (o_proj)  ->  up or fc1, and the gate  ->  down or fc2

The frozen weights stay as they are: outputs and inputs are scaled while a layer runs. The scales
start at 1, so that an untrained adapter changes nothing.
"""

from typing import TYPE_CHECKING, Any, Literal

from components.adapters.methods.method import NoPrefix
from components.backbones.layer_memory import Kept
from components.backbones.shape import BackboneShape, LinearChain
from components.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from components.adapters.modules.adapter_method import AdapterMethod


class SanConfig(NoPrefix):
    """SAN (synapse and neuron): a trained scale for every output of the linear modules behind the
    attention, multiplied onto the output and onto the next one's input columns.
    """

    method: Literal["san"] = "san"

    def build(self, backbone: "nn.Module", dropout: float) -> "AdapterMethod":
        from components.adapters.modules.linear_scales import LinearScales
        from components.backbones import backbone_shape

        config: Any = backbone.config
        shape = backbone_shape(config.to_dict())
        return LinearScales(
            num_layers=shape.layers,
            hidden_size=shape.hidden,
            width=shape.feed_forward,
            chain=chain_of(shape),
        )

    def kept(self, shape: BackboneShape) -> Kept:
        """What is multiplied: three outputs, and the inputs of up and down."""
        chain_of(shape)
        return Kept(
            whole_last_layer=True,
            scaled_per_row=3 * shape.hidden + 2 * shape.feed_forward,
        )

    def trained_parameters(self, shape: BackboneShape) -> int:
        """L (2 D + F), F the width of the feed-forward part."""
        chain_of(shape)
        return shape.layers * (2 * shape.hidden + shape.feed_forward)


def chain_of(shape: BackboneShape) -> LinearChain:
    """The modules that are scaled. Raises ConfigError where the layers have none that follow one
    another.
    """
    if shape.chain is None:
        raise ConfigError(
            "adapter.method san scales the attention's output projection and the linear modules "
            "that follow it, and the layers of this backbone have none such (experts, or a "
            "feed-forward part beside the attention); use lora."
        )
    return shape.chain
