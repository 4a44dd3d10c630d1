"""How many optimizer steps a trial takes and after which of them it evaluates: arithmetic on its
settings and the number of training documents.
"""

import math
from collections.abc import Sequence

from components.config.experiment import TrainConfig


def steps_per_epoch(config: TrainConfig, *, num_documents: int, world_size: int) -> int:
    """Optimizer steps of one pass over the training documents."""
    return math.ceil(num_documents / config.training.batch_size(world_size))


def total_steps(config: TrainConfig, *, num_documents: int, world_size: int) -> int:
    """Optimizer steps of a whole trial, which is also the length of the learning-rate schedule."""
    steps = config.training.epochs * steps_per_epoch(
        config, num_documents=num_documents, world_size=world_size
    )
    return min(steps, config.training.max_steps or steps)


def evaluation_steps(config: TrainConfig, *, num_documents: int, world_size: int) -> list[int]:
    """The numbers of completed steps after which the trial evaluates; the last one is the end."""
    per_epoch = steps_per_epoch(config, num_documents=num_documents, world_size=world_size)
    total = total_steps(config, num_documents=num_documents, world_size=world_size)
    parts = min(config.training.evaluations_per_epoch, per_epoch)
    marks = {
        epoch * per_epoch + math.ceil(part * per_epoch / parts)
        for epoch in range(math.ceil(total / per_epoch))
        for part in range(1, parts + 1)
    }
    return sorted({mark for mark in marks if mark < total} | {total})


def most_evaluations(
    trials: Sequence[TrainConfig], *, num_documents: int | None, world_size: int
) -> int:
    """Evaluations of the longest of these trials; an upper bound where the number of training
    documents is not known.
    """
    if num_documents is not None:
        return max(
            len(evaluation_steps(trial, num_documents=num_documents, world_size=world_size))
            for trial in trials
        )
    asked = [
        (trial.training.epochs * trial.training.evaluations_per_epoch, trial.training.max_steps)
        for trial in trials
    ]
    return max(min(count, limit or count) for count, limit in asked)


def most_steps(
    trials: Sequence[TrainConfig], *, num_documents: int | None, world_size: int
) -> int | None:
    """Optimizer steps of the longest of these trials; None where neither the number of training
    documents nor max_steps tells.
    """
    if num_documents is not None:
        return max(
            total_steps(trial, num_documents=num_documents, world_size=world_size)
            for trial in trials
        )
    limits = [trial.training.max_steps for trial in trials if trial.training.max_steps is not None]
    return max(limits) if len(limits) == len(trials) else None
