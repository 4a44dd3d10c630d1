"""Trained scales of linear modules that follow one another (SAN, arXiv 2409.06706).

    o    = a (W_o x + b_o)
    up   = u (W_up diag(a) y + b_up)             y: what the feed-forward part takes, o among it
    gate =    W_gate diag(a) y + b_gate
    down = d (W_down diag(u) z + b_down)         z: act(up), or act(gate) up

The fact a newcomer gets wrong: y is no scaled o. A residual and a norm lie between, and all of it
is scaled once more. Scales are float32; a product is rounded to the backbone's numbers once.
Shapes: L layers, D hidden, F width of the feed-forward part.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from components.adapters.modules.adapter_method import Contribution, Values
from components.backbones.family import Rows
from components.backbones.shape import LinearChain


class LinearScales(nn.Module):
    """The scales of every layer, 1 at the start."""

    def __init__(
        self, *, num_layers: int, hidden_size: int, width: int, chain: LinearChain
    ) -> None:
        super().__init__()
        self.rows, self.chain = Rows(), chain
        self.trained_in_backbone: tuple[str, ...] = ()
        self.attention_scale = nn.Parameter(torch.ones(num_layers, hidden_size))
        self.up_scale = nn.Parameter(torch.ones(num_layers, width))
        self.down_scale = nn.Parameter(torch.ones(num_layers, hidden_size))

    def forward(self) -> Values:
        return {
            "attention_scale": self.attention_scale.clone(),
            "up_scale": self.up_scale.clone(),
            "down_scale": self.down_scale.clone(),
        }

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        def inside_layer(index: int, layer: nn.Module) -> AbstractContextManager[Any]:
            return _scaled(
                layer,
                self.chain,
                attention_D=values["attention_scale"][index],
                up_F=values["up_scale"][index],
                down_D=values["down_scale"][index],
            )

        # A last layer cut down to one row rests the hooks inside its attention.
        return Contribution(inside_layer=inside_layer, changes_attention=True)

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        return dict(parameters)


@contextmanager
def _scaled(
    layer: nn.Module, chain: LinearChain, *, attention_D: Tensor, up_F: Tensor, down_D: Tensor
) -> Iterator[None]:
    up = chain.inward[0]
    of_up = torch.cat([torch.ones_like(up_F), up_F]) if chain.is_fused else up_F
    outputs = ((chain.attention, attention_D), (up, of_up), (chain.outward, down_D))
    inputs = (*((name, attention_D) for name in chain.inward), (chain.outward, up_F))
    with ExitStack() as stack:
        for name, scale in inputs:
            module = layer.get_submodule(name)
            stack.callback(module.register_forward_pre_hook(_input_hook(scale)).remove)
        for name, scale in outputs:
            module = layer.get_submodule(name)
            stack.callback(module.register_forward_hook(_output_hook(scale)).remove)
        yield


def _input_hook(scale: Tensor) -> Any:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (_times(inputs[0], scale), *inputs[1:])

    return hook


def _output_hook(scale: Tensor) -> Any:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return _times(output, scale)

    return hook


def _times(values: Tensor, scale: Tensor) -> Tensor:
    return (values * scale).to(values.dtype)
