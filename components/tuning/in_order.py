"""Messages in the order they were sent.

A report costs its trial no waiting: it is sent and forgotten. Ray promises no order of calls to an
async actor, so under load an evaluation may overtake the one before it, and the end of a trial its
last evaluation.
"""

from components.tuning.assignments import Message


class InOrder:
    """Holds back what came too early. Numbers count from 0 per assignment."""

    def __init__(self) -> None:
        self._next = 0
        self._early: dict[int, Message] = {}

    def arrived(self, number: int, message: Message) -> list[Message]:
        """The messages that are due now, in order."""
        self._early[number] = message
        due = []
        while self._next in self._early:
            due.append(self._early.pop(self._next))
            self._next += 1
        return due
