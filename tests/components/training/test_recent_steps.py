"""The steps that a process remembers of itself."""

import math

import torch

from components.training.recent_steps import KEPT, RecentSteps, Step, mean_loss


def noted(steps: RecentSteps, number: int, *, loss: float = 1.0, terms: int = 2) -> None:
    step = Step(number, float(number), 0.5, 10, 1e-3, loss=None)
    steps.note(step, loss_sum=torch.tensor(loss * terms), terms=terms)


def test_what_was_not_told_yet_is_given_once_with_mean_losses() -> None:
    steps = RecentSteps()
    steps.begin("a")
    for number in (1, 2, 3):
        noted(steps, number, loss=float(number))
    training, made, tokens, new = steps.since(1)
    assert (training, made, tokens) == ("a", 3, 30)
    assert [(step.number, step.loss) for step in new] == [(2, 2.0), (3, 3.0)]
    assert steps.since(made)[3] == ()


def test_a_rank_without_documents_has_no_loss() -> None:
    steps = RecentSteps()
    noted(steps, 1, terms=0)
    (step,) = steps.since(0)[3]
    assert step.loss is None and math.isnan(mean_loss((step,)))


def test_another_training_forgets_the_steps_and_not_their_number() -> None:
    steps = RecentSteps()
    steps.begin("a")
    noted(steps, 1)
    steps.begin("b")
    assert steps.since(0) == ("b", 1, 10, ())
    noted(steps, 1)
    assert len(steps.since(1)[3]) == 1


def test_no_more_than_the_last_are_kept() -> None:
    steps = RecentSteps()
    for number in range(KEPT + 7):
        noted(steps, number)
    assert [step.number for step in steps.since(0)[3]] == list(range(7, KEPT + 7))
