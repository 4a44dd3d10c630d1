"""Events reach whoever asked in the order in which they were sent."""

import itertools

from components.jobs.events import Evaluated, Event, Trained
from components.jobs.sequencer import Sequencer
from components.training.outcomes import Progress, Report


def evaluated(number: int) -> Evaluated:
    return Evaluated(
        "a", Report(number, number, {}, is_best=True, done=False, trainable_parameters=1)
    )


TRAINED = Trained("a", "completed", "all steps done", Progress(), 1, None)


def test_order_of_arrival_does_not_matter() -> None:
    sent: list[Event] = [evaluated(1), evaluated(2), evaluated(3), TRAINED]
    for arrival in itertools.permutations(range(4)):
        inbox = Sequencer()
        assert [due for number in arrival for due in inbox.arrived(number, sent[number])] == sent


def test_what_is_due_is_not_held_back() -> None:
    inbox = Sequencer()
    assert inbox.arrived(0, evaluated(1)) == [evaluated(1)]
    assert inbox.arrived(2, TRAINED) == []
    assert inbox.arrived(1, evaluated(2)) == [evaluated(2), TRAINED]


def test_what_came_already_is_not_due_again() -> None:
    inbox = Sequencer()
    inbox.arrived(0, evaluated(1))
    assert inbox.arrived(0, evaluated(1)) == []
