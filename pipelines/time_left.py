"""How long a search may still take, from how long it took so far."""

from collections.abc import Iterable
from typing import Protocol


class Trial(Protocol):
    """What is read of a trial."""

    @property
    def outcome(self) -> str: ...
    @property
    def evaluations(self) -> int: ...


def seconds_left(
    trials: Iterable[Trial], *, planned: int, evaluations: int, passed: float
) -> float | None:
    """Seconds, from the mean time of ended trials, the running ones counted by their share of
    `evaluations`: an upper bound where ASHA stops some. None before anything was told.
    """
    shares = [
        1.0 if each.outcome != "running" else each.evaluations / evaluations for each in trials
    ]
    done = min(sum(shares), float(planned))
    return passed * (planned - done) / done if done > 0 else None
