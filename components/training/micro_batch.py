"""What a training asks for while it runs: micro-batch after micro-batch, each answered by whoever
drives it.

A training is a generator: it yields a MicroBatch and is sent the Answer. The fact a newcomer gets
wrong: the backward pass is the answerer's, because trainings that are answered side by side share
one graph; a step, an evaluation, a checkpoint stay the training's own.
Shapes: B documents, T text tokens, C classes.
"""

from collections.abc import Generator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from components.adapters import AdaptedModel
from components.backbones.readers import RandomState
from components.tasks import Task
from components.training.engine import Engine
from components.training.pulse import PULSE
from components.training.state_store import StateStore

T = TypeVar("T")


@dataclass(frozen=True)
class MicroBatch:
    """Documents of one training. `inputs`: what the model takes of them, on its device; `documents`
    is equal where they are the same ones, of whichever training; `states`: where theirs are kept;
    `weight`: of each term of the loss in the step, None in an evaluation; `random`: what the
    step's dropout is drawn from where others draw too. `course` is equal for trainings that take
    the same documents in the same order, and `place` orders what one of them asks for: optimizer
    step, an evaluation before the step that follows it, part of it.
    """

    model: AdaptedModel
    engine: Engine
    task: Task
    documents: tuple[Any, ...]
    inputs: Mapping[str, Tensor]
    labels: Tensor
    states: StateStore | None
    weight: float | None
    random: RandomState
    course: tuple[Any, ...] = ()
    place: tuple[int, int, int] = (0, 0, 0)

    @property
    def trains(self) -> bool:
        return self.weight is not None


@dataclass(frozen=True)
class Answer:
    """`logits` (B, C) and, where it trains, `loss`: the sum over the micro-batch's terms. Neither
    has a graph any more.
    """

    logits: Tensor
    loss: Tensor | None = None


Steps = Generator[MicroBatch, Answer, T]
"""A training, or a job that trains, which gives a T when it is over."""


def answer_alone(asked: MicroBatch) -> Answer:
    """One run of the backbone for this micro-batch, and the backward pass where it trains."""
    set_mode(asked)
    batch: dict[str, Any] = dict(asked.inputs)
    if asked.states is not None:
        batch["states"] = asked.states.states(batch["input_ids"], batch["attention_mask"])
    with nullcontext() if asked.trains else torch.no_grad():
        run = asked.engine.forward if asked.trains else asked.engine.deepspeed
        logits_BC: Tensor = run(**batch).logits
    loss = None
    if asked.weight is not None:
        loss = asked.task.loss(logits_BC, asked.labels, reduction="sum")
        asked.engine.deepspeed.backward(loss * asked.weight)
        loss = loss.detach()
    PULSE.beat()
    return Answer(logits_BC.detach(), loss)


def set_mode(asked: MicroBatch) -> None:
    """Model and backbone train or evaluate. The backbone's mode counts too: other models share
    it.
    """
    model = asked.model
    if not model.training == model.backbone.training == asked.trains:
        asked.engine.deepspeed.train(asked.trains)


def driven_alone(steps: Steps[T]) -> T:
    """Drive a training to its end and give its result."""
    try:
        asked = next(steps)
        while True:
            asked = steps.send(answer_alone(asked))
    except StopIteration as ended:
        result: T = ended.value
        return result
