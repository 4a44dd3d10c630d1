"""Trainings side by side on one backbone: what they ask for at the same time is answered in one run
of it, and each gets what it would have got alone, up to the order of sums.

The facts a newcomer gets wrong: trainings need not begin together. One that is behind others of its
course goes on alone until they meet, so that all of them then share the states of each batch;
trainings of different courses share none, but the run. And a loss that is no number stays with its
training, whose rows nobody else sees.
Shapes: B documents, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic

import torch
from torch import Tensor

from components.adapters.side_by_side import Share, logits_side_by_side
from components.backbones.text_in_passing import TextInPassing
from components.backbones.text_states import TextStates
from components.training.micro_batch import Answer, MicroBatch, Steps, T, answer_alone, set_mode
from components.training.pulse import PULSE


class SideBySide(Generic[T]):
    """Trainings by name, driven round by round; in a round those that are furthest behind in each
    course go on to their next micro-batch.

    Where there are several ranks, all of them add the same ones in the same order: each round's
    collectives follow one another as the trainings were added.
    """

    def __init__(self) -> None:
        self._running: dict[str, Steps[T]] = {}
        self._asked: dict[str, MicroBatch] = {}
        self._over: dict[str, T] = {}

    def __len__(self) -> int:
        return len(self._running)

    def add(self, name: str, steps: Steps[T]) -> None:
        """Another one, which begins with the next round."""
        assert name not in self._running
        self._running[name] = steps

    def round(self) -> dict[str, T]:
        """Begin what was added, then answer those that are behind; what those gave that are over
        now.
        """
        for name in [name for name in self._running if name not in self._asked]:
            self._go_on(name, None)
        behind = furthest_behind({name: self._asked[name] for name in self._running})
        answers = answered([self._asked.pop(name) for name in behind])
        for name, answer in zip(behind, answers, strict=True):
            self._go_on(name, answer)
        over, self._over = self._over, {}
        return over

    def _go_on(self, name: str, answer: Answer | None) -> None:
        steps = self._running[name]
        try:
            self._asked[name] = next(steps) if answer is None else steps.send(answer)
        except StopIteration as ended:
            self._over[name] = ended.value
            del self._running[name]


def furthest_behind(asked: Mapping[str, MicroBatch]) -> list[str]:
    """In the order of `asked`, those at the first place of their course."""
    first: dict[tuple[Any, ...], tuple[int, int, int]] = {}
    for each in asked.values():
        first[each.course] = min(each.place, first.get(each.course, each.place))
    return [name for name, each in asked.items() if each.place == first[each.course]]


def answered(asked: Sequence[MicroBatch]) -> list[Answer]:
    """Answers in the order of the questions: one run for all that train, one for the others."""
    answers: dict[int, Answer] = {}
    for trains in (True, False):
        places = [place for place, each in enumerate(asked) if each.trains is trains]
        found = _answered([asked[place] for place in places])
        answers |= dict(zip(places, found, strict=True))
    return [answers[place] for place in range(len(asked))]


def _answered(asked: Sequence[MicroBatch]) -> list[Answer]:
    """Of one kind. One that is alone may be of any method."""
    if len(asked) == 1:
        with asked[0].random.turn():
            return [answer_alone(asked[0])]
    for each in asked:
        set_mode(each)
    if not asked or not asked[0].trains:
        with torch.no_grad():
            return [Answer(logits_BC) for logits_BC in _logits(asked)]
    logits = _logits(asked)
    losses = [
        each.task.loss(logits_BC, each.labels, reduction="sum")
        for each, logits_BC in zip(asked, logits, strict=True)
    ]
    _backward(asked, losses)
    return [
        Answer(logits_BC.detach(), loss.detach())
        for logits_BC, loss in zip(logits, losses, strict=True)
    ]


def _logits(asked: Sequence[MicroBatch]) -> list[Tensor]:
    if not asked:
        return []
    read: dict[tuple[Any, ...], TextStates | TextInPassing] = {}
    for each in asked:
        if each.documents not in read:
            read[each.documents] = _states(each)
    shares = [Share(each.model, read[each.documents], each.random) for each in asked]
    logits = logits_side_by_side(shares)
    for _ in asked:
        PULSE.beat()
    return logits


def _states(asked: MicroBatch) -> TextStates | TextInPassing:
    ids_BT, mask_BT = asked.inputs["input_ids"], asked.inputs["attention_mask"]
    if asked.states is not None:
        return asked.states.states(ids_BT, mask_BT)
    return asked.model.text_of_batch(ids_BT, mask_BT)


def _backward(asked: Sequence[MicroBatch], losses: Sequence[Tensor]) -> None:
    """One walk through the graph that they share; each engine is then given its own part, one
    after the other, because it reduces over ranks what it gets.
    """
    weighted = [
        loss * each.weight
        for loss, each in zip(losses, asked, strict=True)
        if each.weight is not None
    ]
    named = [(each, name) for each in asked for name in each.engine.parameters]
    parameters = [each.engine.parameters[name] for each, name in named]
    found = torch.autograd.grad(weighted, parameters, allow_unused=True)
    for each in asked:
        own = {
            name: gradient
            for (whose, name), gradient in zip(named, found, strict=True)
            if whose is each and gradient is not None
        }
        each.engine.take_gradients(own)
