"""The latest optimizer steps of this process, for whoever watches it: what the metrics and the
record of a failed training are made of (components/jobs/words.py).

A loss stays a tensor until it is asked for, so that noting a step waits for no GPU.
"""

import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 200


@dataclass(frozen=True)
class Step:
    """One optimizer step on one rank. `number` counts from 1 within its training; `ended_at` in
    seconds since 1970; `tokens`: of all ranks, padding and prefix excluded; `loss`: mean over this
    rank's documents, None where it had none.
    """

    number: int
    ended_at: float
    seconds: float
    tokens: int
    learning_rate: float
    loss: float | None


@dataclass(frozen=True)
class _Noted:
    step: Step
    loss_sum: "Tensor"
    terms: int


class RecentSteps:
    """One for the process: it trains one adapter at a time. `made` and `tokens` count all steps of
    the process, `kept` are the last ones of the present training.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: deque[_Noted] = deque(maxlen=KEPT)
        self.made, self.tokens, self.training = 0, 0, ""

    def begin(self, training: str) -> None:
        """Another training begins; `training` tells it from the others."""
        with self._lock:
            self._noted.clear()
            self.training = training

    def note(self, step: Step, *, loss_sum: "Tensor", terms: int) -> None:
        """A step is done. `loss_sum`: over the `terms` of this rank, not read now."""
        with self._lock:
            self._noted.append(_Noted(step, loss_sum, terms))
            self.made += 1
            self.tokens += step.tokens

    def since(self, made: int) -> tuple[str, int, int, tuple[Step, ...]]:
        """(training, steps and tokens of the process so far, the steps after the first `made` as
        far as they are kept).
        """
        with self._lock:
            new = min(max(0, self.made - made), len(self._noted))
            found = list(self._noted)[len(self._noted) - new :]
            training, counted, tokens = self.training, self.made, self.tokens
        return training, counted, tokens, tuple(_read(each) for each in found)


def _read(noted: _Noted) -> Step:
    if not noted.terms:
        return noted.step
    step = noted.step
    loss = float(noted.loss_sum) / noted.terms
    return Step(step.number, step.ended_at, step.seconds, step.tokens, step.learning_rate, loss)


def mean_loss(steps: "tuple[Step, ...]") -> float:
    """Of the steps that have one; not a number where none has."""
    losses = [step.loss for step in steps if step.loss is not None]
    return sum(losses) / len(losses) if losses else math.nan


RECENT_STEPS = RecentSteps()
