"""Several adapters on one backbone in one run: each answers about its own documents, and those that
were given the same states read them together.

For methods whose rows the text does not see. The fact a newcomer gets wrong: an adapter's answers
and gradients are those of a run of its own up to the order of sums, its dropout included, whatever
the others are; a row that is not a number stays alone.
Shapes: B documents, P rows of one adapter, N sequences of rows of all, D hidden, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from components.adapters.model import AdaptedModel
from components.adapters.modules.adapter_method import Contribution
from components.backbones.readers import RandomState, Reader, Reading, parts
from components.backbones.text_in_passing import TextInPassing
from components.backbones.text_states import TextStates


@dataclass(frozen=True)
class Share:
    """One adapter's part in a run: `states` of its documents (the same object for those that read
    the same ones), and what its dropout is drawn from, which it needs while it trains.
    """

    model: AdaptedModel
    states: TextStates | TextInPassing
    random: RandomState


def logits_side_by_side(shares: Sequence[Share]) -> list[Tensor]:
    """What the head of each adapter says of its documents, (B, C) float32 each.

    All models are on one backbone object, whose mode (train or eval) counts for its layers. Raises
    BackboneError where one of them does not have it any more.
    """
    groups: dict[int, list[int]] = {}
    for number, share in enumerate(shares):
        groups.setdefault(id(share.states), []).append(number)
    order = [number for group in groups.values() for number in group]
    readers = [Reader(share.model.adapter.rows.suffix, share.random) for share in shares]
    readings = [
        Reading(shares[group[0]].states, tuple(readers[number] for number in group))
        for group in groups.values()
    ]
    changes = [
        _before_layer(shares[number].model, documents=len(shares[number].states.tokens_B))
        for number in order
    ]
    first = shares[0].model
    with first.contributed(Contribution(before_layer=_joined(changes, readings))):
        hidden_NPD = first.family.run_behind_text(first.backbone, readings)
    logits: dict[int, Tensor] = {}
    for number, (_, reader, place) in zip(order, parts(readings), strict=True):
        with reader.turn():
            hidden_BPD = hidden_NPD[place, : reader.rows]
            logits[number] = shares[number].model.logits_of_rows(hidden_BPD)
    return [logits[number] for number in range(len(shares))]


def _before_layer(model: AdaptedModel, *, documents: int) -> Callable[[int, Tensor], Tensor]:
    contribution = model.contribution(batch_size=documents)
    assert contribution.inside_layer is None and contribution.prompt_BPD is None
    assert contribution.before_layer is not None
    return contribution.before_layer


def _joined(
    changes: Sequence[Callable[[int, Tensor], Tensor]], readings: Sequence[Reading]
) -> Callable[[int, Tensor], Tensor]:
    """What every adapter adds before a layer, to its own rows."""
    each = parts(readings)
    sizes = [place.stop - place.start for _, _, place in each]

    def before_layer(index: int, hidden_NPD: Tensor) -> Tensor:
        changed = []
        for change, (_, reader, _), hidden_BPD in zip(
            changes, each, hidden_NPD.split(sizes), strict=True
        ):
            with reader.turn():
                changed.append(change(index, hidden_BPD[:, : reader.rows]))
            if reader.rows < hidden_BPD.shape[1]:
                changed[-1] = torch.cat([changed[-1], hidden_BPD[:, reader.rows :]], dim=1)
        return torch.cat(changed)

    return before_layer
