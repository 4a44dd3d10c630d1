"""A layer whose forward takes one argument more, and runs another way where it is given.

The facts a newcomer gets wrong: what runs then must be one checkpointed function as a whole; and
what is installed has to follow its layer into a deep copy, so it names the attention and does not
hold it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

from torch import Tensor, nn

OWN_FORWARD = "own_forward"
"""Where a layer keeps what is installed in it."""
Run = Callable[..., Any]
"""(layer, the argument, keyword arguments, hidden (B, S, D), *arguments) -> what forward returns; a
function of a module, because a deep copy shares it."""


@dataclass(frozen=True)
class OwnForward:
    """`attention`: the path in the layer of the module that calls the attention function."""

    argument: str
    attention: str
    run: Run


def install_forward(layer: nn.Module, attention: nn.Module, *, argument: str, run: Run) -> None:
    """Let the layer's forward take `argument`; without it, or with None, it is the stock one."""
    path = next(path for path, module in layer.named_modules() if module is attention)
    layer.__dict__[OWN_FORWARD] = OwnForward(argument, path, run)
    layer.forward = MethodType(_forward, layer)


def uninstall_forward(layer: nn.Module) -> None:
    """Give the layer its stock forward back."""
    layer.__dict__.pop("forward", None)
    layer.__dict__.pop(OWN_FORWARD, None)


def takes_argument(layer: nn.Module, argument: str) -> bool:
    """Whether this argument is installed."""
    own: OwnForward | None = layer.__dict__.get(OWN_FORWARD)
    return own is not None and own.argument == argument


def attention_of(layer: nn.Module) -> Any:
    """The module that calls the attention function, of a layer in which a forward is installed."""
    return layer.get_submodule(layer.__dict__[OWN_FORWARD].attention)


def stock_forward(layer: nn.Module) -> Callable[..., Any]:
    """The class's forward, without checkpointing of its own; it takes the layer first."""
    forward = type(layer).forward
    found: Callable[..., Any] = getattr(forward, "__wrapped__", forward)
    return found


@contextmanager
def given(layer: nn.Module, argument: str, value: Any) -> Iterator[None]:
    """Context in which the layer is called with this argument."""

    def hook(
        _layer: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return inputs, options | {argument: value}

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _forward(layer: Any, hidden_states: Tensor, *args: Any, **options: Any) -> Any:
    own: OwnForward = layer.__dict__[OWN_FORWARD]
    value = options.pop(own.argument, None)
    if value is None:
        return type(layer).forward(layer, hidden_states, *args, **options)
    run = partial(own.run, layer, value, options)
    if getattr(layer, "gradient_checkpointing", False) and layer.training:
        return layer._gradient_checkpointing_func(run, hidden_states, *args)
    return run(hidden_states, *args)
