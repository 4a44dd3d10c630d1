"""Copies of a loaded backbone that share its weights: modules of their own, whose hooks and swapped
methods disturb nobody, round the very same parameters.

The fact a newcomer gets wrong: a parameter that is trained in a copy must become the copy's own
first (`own_parameter`), or every other copy would answer with it.
"""

from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

WHOLE = "shared_with"
"""Where a copy keeps what it shares, which lives as long as the last copy."""


class _Whole:
    """The backbone whose weights are shared; a copy of a copy shares them no further."""

    def __init__(self, backbone: "nn.Module") -> None:
        self.backbone = backbone

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Whole":
        return self


def sharing_copy(backbone: "nn.Module") -> "nn.Module":
    """A copy that takes the room of its modules alone, some hundred KB. The backbone itself must be
    left as it is from now on: adapters go round its copies.
    """
    tensors = chain(backbone.parameters(), backbone.buffers(), _beside_parameters(backbone))
    copy = deepcopy(backbone, {id(tensor): tensor for tensor in tensors})
    # Not by setattr: it would become a module of the copy.
    copy.__dict__[WHOLE] = _Whole(backbone)
    return copy


def _beside_parameters(backbone: "nn.Module") -> Iterator[Any]:
    """What bitsandbytes keeps of quantised weights beside the parameters: `quant_state` of 4 bits,
    and in `state` of 8 bits the weights themselves and their scales.
    """
    for module in backbone.modules():
        yield from filter(None, [module.__dict__.get("quant_state")])
        state = module.__dict__.get("state")
        held = (getattr(state, name, None) for name in ("CB", "SCB"))
        yield from (each for each in held if each is not None)


def is_shared(backbone: "nn.Module", name: str) -> bool:
    """Whether the parameter of that name is another copy's too."""
    whole: _Whole | None = backbone.__dict__.get(WHOLE)
    return whole is not None and (
        backbone.get_parameter(name) is whole.backbone.get_parameter(name)
    )


def same_weights(one: "nn.Module", other: "nn.Module") -> bool:
    """Whether both are copies that share the weights of one backbone."""
    whole: _Whole | None = one.__dict__.get(WHOLE)
    others: _Whole | None = other.__dict__.get(WHOLE)
    return whole is not None and others is not None and whole.backbone is others.backbone


def own_parameter(backbone: "nn.Module", name: str) -> "nn.Parameter":
    """The parameter of that name, made the copy's own where it was shared."""
    from torch import nn

    parameter = backbone.get_parameter(name)
    if not is_shared(backbone, name):
        return parameter
    module, _, leaf = name.rpartition(".")
    own = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
    setattr(backbone.get_submodule(module), leaf, own)
    return own
