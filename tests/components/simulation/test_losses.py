"""When slots lose their workers."""

from itertools import islice

import pytest

from components.simulation import LossRates, drawn_losses


def test_losses_come_as_often_as_their_rates_say() -> None:
    rates = LossRates(per_worker_hour=0.5, per_node_hour=1.0, node_away_seconds=7.0)
    losses = drawn_losses(rates, slots=4, workers_per_slot=4, workers_per_node=8, seed=0)
    found = list(islice(losses, 4000))
    # 16 workers and 2 nodes: 10 an hour; the tolerance is four standard deviations of the mean.
    assert found[-1].seconds / 3600.0 == pytest.approx(400.0, rel=4 / 4000**0.5)
    of_nodes = [loss for loss in found if loss.away_seconds]
    assert len(of_nodes) / 4000 == pytest.approx(0.2, abs=4 * (0.16 / 4000) ** 0.5)
    assert {loss.slots for loss in of_nodes} == {(0, 1), (2, 3)}
    alone = {loss.slots for loss in found if not loss.away_seconds}
    assert alone == {(0,), (1,), (2,), (3,)}
    assert [loss.seconds for loss in found] == sorted(loss.seconds for loss in found)


def test_a_slot_over_several_nodes_is_lost_with_each_of_them() -> None:
    rates = LossRates(per_node_hour=1.0)
    losses = drawn_losses(rates, slots=2, workers_per_slot=12, workers_per_node=8, seed=0)
    assert {loss.slots for loss in islice(losses, 100)} == {(0,), (0, 1), (1,)}


def test_nothing_is_lost_at_rates_of_zero() -> None:
    found = drawn_losses(LossRates(), slots=2, workers_per_slot=1, workers_per_node=8, seed=0)
    assert not list(found)
