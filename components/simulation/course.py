"""What a trial would do undisturbed: measured before, or assumed."""

from collections.abc import Callable
from dataclasses import dataclass

from components.tuning.searchers import Point


@dataclass(frozen=True)
class Course:
    """By evaluation: `steps`, after which optimizer step it comes; `seconds`, from the evaluation
    before it (its checkpoint included); `values`, the metric that it tells.
    """

    steps: tuple[int, ...]
    seconds: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.steps) == len(self.seconds) == len(self.values) > 0, self

    def step_seconds(self, evaluation: int) -> float:
        """Of one optimizer step before this evaluation (from 1), its share of the evaluation
        included.
        """
        before = self.steps[evaluation - 2] if evaluation > 1 else 0
        return self.seconds[evaluation - 1] / (self.steps[evaluation - 1] - before)


Courses = Callable[[Point], Course]
"""The course of a trial at a point of the space."""
