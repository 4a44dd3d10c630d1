"""An attention module whose call of transformers' attention function we answer ourselves, for as
long as a context lasts.

The fact a newcomer gets wrong: transformers looks the function up by a name in the module's config,
which all layers of a model share; so the module gets a copy of it for the while.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def answered(attention: Any, name: str, run: Any) -> Iterator[None]:
    """Context in which this attention module, and no other, calls the function of this name in
    transformers' table, which finds `run` as `module.__dict__[name]`; within it another one may be
    opened on the same module.
    """
    config, before = attention.config, attention.__dict__.get(name)
    ours = copy.copy(config)
    ours._attn_implementation_internal = name
    attention.config, attention.__dict__[name] = ours, run
    try:
        yield
    finally:
        attention.config = config
        del attention.__dict__[name]
        if before is not None:
            attention.__dict__[name] = before


def stock_function(module: Any, implementation: str | None) -> Callable[..., Any]:
    """sdpa where the model runs on it. Where it has sinks or softcap, its own eager function: few
    rows need no kernel.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    found: Callable[..., Any] = (
        ALL_ATTENTION_FUNCTIONS["sdpa"] if implementation == "sdpa" or own is None else own
    )
    return found


def bias(seen: Tensor, like: Tensor) -> Tensor:
    """What is added to scores: 0 where a key is seen, else the least number of like's dtype."""
    return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(
        ~seen, torch.finfo(like.dtype).min
    )


def of_rows(value: Any, take: Callable[[Tensor], Tensor], whole: tuple[int, int]) -> Any:
    """The taken rows of whatever a layer is given for each row (positions, cosines and sines).

    `take`: (B, S, ...) -> (B, taken rows, ...); `whole`: B and S; what has other sizes is left.
    """
    if isinstance(value, Tensor):
        if value.ndim < 2 or value.shape[0] not in (1, whole[0]) or value.shape[1] != whole[1]:
            return value
        return take(value.expand(whole[0], *value.shape[1:]))
    if isinstance(value, tuple | list):
        return type(value)(of_rows(one, take, whole) for one in value)
    if isinstance(value, dict):
        return {name: of_rows(one, take, whole) for name, one in value.items()}
    return value
