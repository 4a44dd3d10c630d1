"""What an adapter does before and inside a layer, put there by hooks for as long as a forward pass
runs, and around each layer that is recomputed in the backward pass.

The fact a newcomer gets wrong: a checkpointed layer runs again when the forward pass and its hooks
are long gone, so its checkpoint function is replaced for the length of the pass.
Shapes: B batch, S all rows, D hidden.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor, nn


def before_layer(change: Callable[[int, Tensor], Tensor], index: int) -> Any:
    """A forward pre-hook with keyword arguments: change(index, hidden (B, S, D)) is the layer's
    input.
    """

    def hook(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(index, args[0]), *args[1:]), kwargs
        changed_BSD = change(index, kwargs["hidden_states"])
        return args, {**kwargs, "hidden_states": changed_BSD}

    return hook


@contextmanager
def inside_layer(
    context: Callable[[int, nn.Module], AbstractContextManager[Any]], index: int, layer: Any
) -> Iterator[None]:
    """The method's context around every run of the layer: this forward pass, and the recomputation
    in the backward pass where the layer is checkpointed.
    """
    if not (getattr(layer, "gradient_checkpointing", False) and layer.training):
        with context(index, layer):
            yield
        return
    checkpoint = layer._gradient_checkpointing_func

    def checkpoint_with_context(run: Callable[..., Any], *args: Any) -> Any:
        def run_in_context(*args: Any) -> Any:
            with context(index, layer):
                return run(*args)

        return checkpoint(run_in_context, *args)

    layer._gradient_checkpointing_func = checkpoint_with_context
    try:
        yield
    finally:
        layer._gradient_checkpointing_func = checkpoint
