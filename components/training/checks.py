"""After which steps the ranks wait for each other to ask what is wanted of them. On a GPU that
costs: the processor would otherwise be some steps ahead.
"""

MOST_STEPS, SECONDS = 20, 5.0
"""Asked after so many steps, or after the steps of so many seconds if these are fewer: a cloud
gives notice of half a minute.
"""


class Checks:
    """Of one training on one rank. Rank 0 says when the next one is; all are told with its
    answer.
    """

    def __init__(self, *, every_step: bool) -> None:
        self.every_step = every_step
        self._next, self._last_step, self._last_time = 0, 0, 0.0

    def due(self, step: int) -> bool:
        return self.every_step or step >= self._next

    def steps_to_next(self, step: int, now: float) -> int:
        """By the time that the steps since the last one took; 1 before that is known."""
        if not self._last_time:
            return 1
        seconds = (now - self._last_time) / (step - self._last_step)
        return max(1, min(MOST_STEPS, round(SECONDS / max(seconds, 1e-6))))

    def made(self, step: int, now: float, *, steps_to_next: int) -> None:
        self._next, self._last_step, self._last_time = step + steps_to_next, step, now
