"""The few parameters of a backbone that adapters train: their pretrained values, and which adapted
model has them now.

The fact a newcomer gets wrong: adapters that train nothing there need the pretrained values, so any
number of them answer side by side; one that does takes the backbone from all that came before.
"""

from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn

from components.backbones.sharing import is_shared, own_parameter
from components.errors import BackboneError

_TURNS = count(1)
LAST_TURN, PRETRAINED = "adapter_turn", "pretrained_values"
"""What a backbone object remembers: the newest adapted model that needs it as it is now, and
pretrained values of what any adapter trained in it.
"""


@dataclass(frozen=True)
class Turn:
    """Who has the backbone as it is now; with `trains`, one that changes it."""

    number: int
    trains: bool


def new_turn() -> int:
    """Of a model that is made now."""
    return next(_TURNS)


def take_turn(backbone: nn.Module, turn: int, *, trains: bool) -> int:
    """The backbone is from now on as this model needs it; returns the turn by which the model has
    it: that of earlier ones where neither they nor it change anything.
    """
    last: Turn | None = backbone.__dict__.get(LAST_TURN)
    if last is not None and not last.trains and not trains:
        return last.number
    if pretrained_values(backbone):
        backbone.__dict__[LAST_TURN] = Turn(turn, trains)
    return turn


def check_turn(backbone: nn.Module, turn: int) -> None:
    """Raise BackboneError where a later model has the backbone."""
    last: Turn | None = backbone.__dict__.get(LAST_TURN)
    if last is not None and turn < last.number:
        names = ", ".join(list(pretrained_values(backbone))[:3])
        raise BackboneError(
            f"A later adapter was put on the same backbone, and its {names} are no longer what "
            "this one was trained with. Load a backbone for each of them."
        )


def keep_pretrained(backbone: nn.Module, name: str) -> None:
    """Remember the parameter's value before an adapter trains it. Shards of ZeRO-3 are left to the
    training session.
    """
    parameter, kept = backbone.get_parameter(name), pretrained_values(backbone)
    if name not in kept and not hasattr(parameter, "ds_id"):
        # One that is shared is never changed: the copy gets one of its own.
        copied = not is_shared(backbone, name)
        kept[name] = parameter.detach().to("cpu", torch.float32, copy=copied)


def put_back(backbone: nn.Module) -> None:
    """Give these parameters their pretrained values again; shards are left to the session."""
    with torch.no_grad():
        for name, value in pretrained_values(backbone).items():
            parameter = backbone.get_parameter(name)
            if not hasattr(parameter, "ds_id"):
                parameter.copy_(value)


def pretrained_values(backbone: nn.Module) -> dict[str, Tensor]:
    """Pretrained values, float32 on the CPU, of the parameters of this backbone object that any
    adapter has trained so far; `adapt` puts them back.
    """
    values: dict[str, Tensor] = backbone.__dict__.setdefault(PRETRAINED, {})
    return values


def train_in_float32(backbone: nn.Module, name: str, value: Tensor | None = None) -> nn.Parameter:
    """Make one backbone parameter trainable; returns it.

    In a bf16 backbone it becomes a float32 parameter of the same name, and its module's output is
    cast back, so that small updates are not rounded away. `value`: the parameter's whole value,
    needed where ZeRO-3 holds only a shard of it here.
    """
    parameter = own_parameter(backbone, name)
    if parameter.dtype != torch.float32:
        module_name, _, leaf = name.rpartition(".")
        module, dtype = backbone.get_submodule(module_name), parameter.dtype
        parameter = nn.Parameter(
            (parameter if value is None else value).detach().to(parameter.device, torch.float32)
        )
        setattr(module, leaf, parameter)
        module.register_forward_hook(lambda _module, _inputs, output: output.to(dtype))
    return parameter.requires_grad_(True)
