"""How often ranks ask what is wanted of them."""

import pytest

from components.training.checks import MOST_STEPS, SECONDS, Checks


@pytest.mark.parametrize(("step_seconds", "asked_after"), [(0.01, MOST_STEPS), (1.0, 5), (30.0, 1)])
def test_a_notice_is_heard_within_seconds_or_after_the_step(
    step_seconds: float, asked_after: int
) -> None:
    checks, now, last = Checks(every_step=False), 100.0, 6
    gaps = []
    for step in range(7, 100):  # it goes on from a checkpoint
        now += step_seconds
        if checks.due(step):
            gaps.append(step - last)
            last = step
            checks.made(step, now, steps_to_next=checks.steps_to_next(step, now))
    assert gaps[:2] == [1, 1]
    assert set(gaps[2:]) == {asked_after}
    assert asked_after * step_seconds <= max(SECONDS, step_seconds)


def test_where_waiting_costs_nothing_every_step_asks() -> None:
    checks = Checks(every_step=True)
    checks.made(5, 1.0, steps_to_next=20)
    assert checks.due(6)
