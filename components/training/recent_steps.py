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
    number: int
    """Among the steps of the process."""
    step: Step
    loss_sum: "Tensor"
    terms: int


class RecentSteps:
    """One for the process. `made` and `tokens` count all steps of the process, of all trainings;
    of each training that runs, or ended last, the last steps are kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[str, deque[_Noted]] = {}
        self._over: set[str] = set()
        self.made, self.tokens = 0, 0

    def begin(self, training: str) -> None:
        """Another training begins; `training` tells it from the others. Those that are over are
        forgotten.
        """
        with self._lock:
            for over in self._over:
                self._noted.pop(over, None)
            self._over.clear()
            self._noted[training] = deque(maxlen=KEPT)

    def end(self, training: str) -> None:
        """The training is over; its steps are kept until another begins."""
        with self._lock:
            self._over.add(training)

    def note(self, training: str, step: Step, *, loss_sum: "Tensor", terms: int) -> None:
        """A step is done. `loss_sum`: over the `terms` of this rank, not read now."""
        with self._lock:
            self.made += 1
            self.tokens += step.tokens
            kept = self._noted.setdefault(training, deque(maxlen=KEPT))
            kept.append(_Noted(self.made, step, loss_sum, terms))

    def since(self, made: int) -> tuple[int, int, dict[str, tuple[Step, ...]]]:
        """(steps and tokens of the process so far, and of each training the steps after the first
        `made` as far as they are kept).
        """
        with self._lock:
            new = {
                training: [noted for noted in kept if noted.number > made]
                for training, kept in self._noted.items()
            }
            counted, tokens = self.made, self.tokens
        return counted, tokens, {name: tuple(map(_read, each)) for name, each in new.items()}


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
