"""Who goes on in a round of trainings side by side: those of a course meet and then stay together,
so that each of its batches is read once.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from components.training import side_by_side
from components.training.micro_batch import Answer, MicroBatch
from components.training.side_by_side import SideBySide

EVALUATES, TRAINS = 0, 1


def asking(course: str, steps: int, *, parts: int = 1) -> Iterator[MicroBatch]:
    """A training that evaluates after every second step."""
    for step in range(steps):
        for part in range(parts):
            yield micro_batch(course, (step, TRAINS, part))
        if step % 2:
            yield micro_batch(course, (step + 1, EVALUATES, 0))


def micro_batch(course: str, place: tuple[int, int, int]) -> MicroBatch:
    made: Any = dict.fromkeys(("model", "engine", "task", "labels", "states", "weight", "random"))
    return MicroBatch(**made, documents=(course, place), inputs={}, course=(course,), place=place)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, tuple[int, int, int]]]]:
    """What was answered together in each round: course and place."""
    found: list[Any] = []

    def answered(asked: Any) -> list[Answer]:
        found.append([(each.course[0], each.place) for each in asked])
        answer: Any = Answer(logits=None)  # type: ignore[arg-type]
        return [answer] * len(asked)

    monkeypatch.setattr(side_by_side, "answered", answered)
    return found


def test_one_that_joins_later_goes_on_alone_until_they_meet(rounds: Any) -> None:
    at_work = SideBySide[None]()
    at_work.add("early", asking("a", 6))  # type: ignore[arg-type]
    for _ in range(4):
        at_work.round()
    at_work.add("late", asking("a", 6))  # type: ignore[arg-type]
    while at_work:
        at_work.round()
    alone, caught_up, together = rounds[:4], rounds[4:8], rounds[8:]
    assert alone == caught_up and all(len(each) == 1 for each in alone)
    assert len(together) == 5 and all(len(each) == 2 for each in together)
    assert all(one == other for one, other in together)


def test_of_several_that_are_behind_the_last_ones_go_on_together(rounds: Any) -> None:
    at_work = SideBySide[None]()
    for name, ahead in (("first", 3), ("second", 1), ("third", 0), ("fourth", 0)):
        steps = asking("a", 8)
        for _ in range(ahead):
            next(steps)
        at_work.add(name, steps)  # type: ignore[arg-type]
    while at_work:
        at_work.round()
    assert [len(each) for each in rounds[:4]] == [2, 3, 3, 4]
    assert all(len(each) == 4 for each in rounds[3:-1])


def test_a_training_of_another_course_waits_for_nobody(rounds: Any) -> None:
    at_work = SideBySide[None]()
    at_work.add("whole", asking("a", 4))  # type: ignore[arg-type]
    at_work.add("in parts", asking("b", 4, parts=3))  # type: ignore[arg-type]
    at_work.round()
    at_work.add("late", asking("a", 4))  # type: ignore[arg-type]
    while at_work:
        at_work.round()
    of_b = [[place for course, place in each if course == "b"] for each in rounds]
    assert all(len(places) == 1 for places in of_b[:14]) and len(rounds) == 14
