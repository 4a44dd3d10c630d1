"""What adapters change inside the attention of a rotary backbone: contexts with hooks, alike for
every implementation of attention.

The fact a newcomer gets wrong: keys go in by the way that cached keys take, after norms and
rotation, so that they enter the softmax as they are stored, whatever the model type does to its
own.
Shapes: B batch, S rows, P prefix rows, H heads, E head size, K = key/value heads x E.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, cat, ones_like, zeros_like

from components.backbones.rotary.model_type import ModelType


class FirstRows:
    """What an attention takes for its cache: keys and values of the first rows are replaced."""

    def __init__(self, key_BPK: Tensor, value_BPK: Tensor) -> None:
        self.key_BPK, self.value_BPK = key_BPK, value_BPK

    def update(
        self, key_BHSE: Tensor, value_BHSE: Tensor, *unused: Any, **unused_too: Any
    ) -> tuple[Tensor, Tensor]:
        """As of a transformers Cache."""
        return _replaced(key_BHSE, self.key_BPK), _replaced(value_BHSE, self.value_BPK)

    def get_seq_length(self, *unused: Any) -> int:
        """Tokens before the first row: none."""
        return 0


def _replaced(states_BHSE: Tensor, prefix_BPK: Tensor) -> Tensor:
    prefix_BHPE = prefix_BPK.to(states_BHSE.dtype).unflatten(-1, (-1, states_BHSE.shape[-1]))
    prefix_BHPE = prefix_BHPE.transpose(1, 2)
    return cat([prefix_BHPE, states_BHSE[:, :, prefix_BHPE.shape[2] :]], dim=2)


@contextmanager
def placed_as_cache(
    attention: Any, key_BPK: Tensor, value_BPK: Tensor, *, argument: str
) -> Iterator[None]:
    """Context in which the attention's first P rows have these keys and values."""
    rows = FirstRows(key_BPK, value_BPK)

    def hook(
        _module: Any, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return inputs, options | {argument: rows}

    handle = attention.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def placed_in_projection(
    attention: Any, key_BPK: Tensor, value_BPK: Tensor, *, module: str
) -> Iterator[None]:
    """The same where one module projects (B, S, query | key | value) of one width each and no cache
    is taken: the first rows are left unrotated.
    """

    def replace(_module: Any, _inputs: Any, output_BSW: Tensor) -> Tensor:
        count = key_BPK.shape[1]
        query_BPK = output_BSW[:, :count, : output_BSW.shape[-1] // 3]
        first_BPW = cat(
            [query_BPK, key_BPK.to(output_BSW.dtype), value_BPK.to(output_BSW.dtype)], dim=-1
        )
        return cat([first_BPW, output_BSW[:, count:]], dim=1)

    handles = [
        getattr(attention, module).register_forward_hook(replace),
        attention.register_forward_pre_hook(_unrotated(key_BPK.shape[1]), with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _unrotated(count: int) -> Any:
    """Hook on an attention: rotary embedding leaves the first rows as they are."""

    def hook(
        _module: Any, inputs: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        cos_BSE, sin_BSE = options["position_embeddings"]
        first = slice(0, count)
        cosines = cat([ones_like(cos_BSE[:, first]), cos_BSE[:, count:]], dim=1)
        sines = cat([zeros_like(sin_BSE[:, first]), sin_BSE[:, count:]], dim=1)
        return inputs, options | {"position_embeddings": (cosines, sines)}

    return hook


@contextmanager
def added(kind: ModelType, attention: Any, extra: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Context in which extra(queries (B, S, H, E), neither scaled nor rotated) is added before the
    output projection.
    """
    queries: list[Tensor] = []
    name, read = next(
        (name, read) for name, read in kind.queries if getattr(attention, name, None) is not None
    )

    def remember(_module: Any, _inputs: Any, output: Tensor) -> None:
        queries[:] = [read(output, attention)]

    def add(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0] + extra(queries.pop()).flatten(2).to(inputs[0].dtype),)

    handles = [
        getattr(attention, name).register_forward_hook(remember),
        getattr(attention, kind.output).register_forward_pre_hook(add),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
