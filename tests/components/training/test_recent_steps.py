"""The steps that a process remembers of itself."""

import math

import torch

from components.training.recent_steps import KEPT, RecentSteps, Step, mean_loss


def noted(
    steps: RecentSteps, number: int, *, of: str = "a", loss: float = 1.0, terms: int = 2
) -> None:
    step = Step(number, float(number), 0.5, 10, 1e-3, loss=None)
    steps.note(of, step, loss_sum=torch.tensor(loss * terms), terms=terms)


def test_what_was_not_told_yet_is_given_once_with_mean_losses() -> None:
    steps = RecentSteps()
    steps.begin("a")
    for number in (1, 2, 3):
        noted(steps, number, loss=float(number))
    made, tokens, new = steps.since(1)
    assert (made, tokens) == (3, 30)
    assert [(step.number, step.loss) for step in new["a"]] == [(2, 2.0), (3, 3.0)]
    assert steps.since(made)[2] == {"a": ()}


def test_a_rank_without_documents_has_no_loss() -> None:
    steps = RecentSteps()
    noted(steps, 1, terms=0)
    (step,) = steps.since(0)[2]["a"]
    assert step.loss is None and math.isnan(mean_loss((step,)))


def test_a_training_that_is_over_is_forgotten_when_another_begins() -> None:
    steps = RecentSteps()
    steps.begin("a")
    noted(steps, 1)
    steps.end("a")
    assert len(steps.since(0)[2]["a"]) == 1
    steps.begin("b")
    assert steps.since(0) == (1, 10, {"b": ()})
    noted(steps, 1, of="b")
    assert len(steps.since(1)[2]["b"]) == 1


def test_trainings_side_by_side_keep_their_steps_apart() -> None:
    steps = RecentSteps()
    for name in "ab":
        steps.begin(name)
    for number in (1, 2):
        noted(steps, number, of="a")
        noted(steps, number, of="b", loss=2.0)
    made, tokens, new = steps.since(1)
    assert (made, tokens) == (4, 40)
    assert {name: [step.number for step in each] for name, each in new.items()} == {
        "a": [2],
        "b": [1, 2],
    }


def test_no_more_than_the_last_are_kept() -> None:
    steps = RecentSteps()
    for number in range(KEPT + 7):
        noted(steps, number)
    assert [step.number for step in steps.since(0)[2]["a"]] == list(range(7, KEPT + 7))
