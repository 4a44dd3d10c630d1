"""How many positions a rotary backbone was made for, and rotations that do not depend on the other
documents of a batch.

The facts a newcomer gets wrong: with YaRN `max_position_embeddings` often states the positions
before they were stretched; and longrope and dynamic scaling take the longest document of a batch
for the length of all.
Shapes: B batch, S rows.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

STRETCHING = ("yarn", "dynamic", "ntk", "linear")
"""Kinds of scaling whose factor says by how much the original positions are stretched."""
STATED_BEFORE = STRETCHING[:-1]
"""Those with which max_position_embeddings are the original ones, unless others are named."""
BY_LENGTH = ("longrope", "su", "dynamic", "ntk")
"""Kinds that rotate by the length of what is read."""


def rotations(values: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The rotary settings in a config.json: one, or one for each kind of layer."""
    found = values.get("rope_parameters") or values.get("rope_scaling") or {}
    if not isinstance(found, Mapping):
        return ()
    nested = tuple(each for each in found.values() if isinstance(each, Mapping))
    return nested or (found,)


def usable_positions(values: Mapping[str, Any]) -> int:
    """Positions for prefix and text together."""
    stated = int(values["max_position_embeddings"])
    found = [stated]
    for rotation in rotations(values):
        kind, factor = _kind(rotation), rotation.get("factor")
        original: Any = rotation.get("original_max_position_embeddings") or values.get(
            "original_max_position_embeddings"
        )
        if kind in STATED_BEFORE:
            original = original or stated
        if kind in STRETCHING and factor and original:
            found.append(int(original * factor))
    return max(found)


def rotates_by_length(values: Mapping[str, Any]) -> bool:
    """Whether a document's rotation depends on how long the batch is."""
    return any(_kind(rotation) in BY_LENGTH for rotation in rotations(values))


def _kind(rotation: Mapping[str, Any]) -> str:
    return str(rotation.get("rope_type", rotation.get("type", "default")))


@contextmanager
def rotated_alone(backbone: Any, last_B: "Tensor") -> Iterator[None]:
    """Context in which each document is rotated as if it stood alone: `last_B` is the position of
    each one's last row, whether that is among the rows of the run or not; what goes beyond it is
    padding.
    """
    import torch

    rotary, last = backbone.rotary_emb, last_B.tolist()
    whole = rotary.forward

    def one_by_one(hidden_BSD: Any, position_ids: Any, *more: Any, **named: Any) -> Any:
        found = []
        for place, position in enumerate(last):
            # The longest position decides: padding repeats the last one, and it is always there.
            own_1S = position_ids[min(place, len(position_ids) - 1)][None].clamp(max=position)
            own_1S = torch.cat([own_1S, torch.full_like(own_1S[:, :1], position)], dim=1)
            parts = whole(hidden_BSD[:1], own_1S, *more, **named)
            found.append([part_1SE[:, :-1] for part_1SE in parts])
        return tuple(torch.cat(parts) for parts in zip(*found, strict=True))

    rotary.forward = one_by_one
    try:
        yield
    finally:
        del rotary.forward
