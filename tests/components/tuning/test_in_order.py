"""Reports reach the search in the order in which they were sent."""

import itertools

from components.tuning.assignments import Message
from components.tuning.in_order import InOrder


def test_order_of_arrival_does_not_matter() -> None:
    sent = [
        Message("report", {"evaluation": 1}),
        Message("report", {"evaluation": 2}),
        Message("report", {"evaluation": 3}),
        Message("end"),
    ]
    for arrival in itertools.permutations(range(4)):
        inbox = InOrder()
        assert [due for number in arrival for due in inbox.arrived(number, sent[number])] == sent


def test_what_is_due_is_not_held_back() -> None:
    inbox = InOrder()
    assert inbox.arrived(0, Message("report")) == [Message("report")]
    assert inbox.arrived(2, Message("end")) == []
    assert inbox.arrived(1, Message("report")) == [Message("report"), Message("end")]
