"""Simulated time: what is to happen, in the order of its times."""

import heapq
from collections.abc import Callable


class Clock:
    """`now`: seconds since the start."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = 0
        self._coming: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, seconds: float, happens: Callable[[], None]) -> None:
        """Let something happen at a time that is not over; of equal times the one asked for first
        comes first.
        """
        assert seconds >= self.now, f"{seconds} s is over: it is {self.now} s"
        heapq.heappush(self._coming, (seconds, self._number, happens))
        self._number += 1

    def advance(self) -> None:
        """Go to the next thing and let it happen. Raises IndexError where nothing comes."""
        self.now, _, happens = heapq.heappop(self._coming)
        happens()
