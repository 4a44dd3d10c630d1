"""Events in the order in which they were sent.

An event costs its training no waiting: it is sent and forgotten. Ray promises no order of calls to
an async actor, so under load an evaluation may overtake the one before it, and the end of a
training its last evaluation.
"""

from components.jobs.events import Event


class Sequencer:
    """Holds back what came too early. Numbers count from 0 per assignment."""

    def __init__(self) -> None:
        self._next = 0
        self._early: dict[int, Event] = {}

    def arrived(self, number: int, event: Event) -> list[Event]:
        """The events that are due now, in order. One that came already is not due again."""
        if number >= self._next:
            self._early[number] = event
        due = []
        while self._next in self._early:
            due.append(self._early.pop(self._next))
            self._next += 1
        return due
