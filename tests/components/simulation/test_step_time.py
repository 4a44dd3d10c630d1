"""Seconds of a step on more or fewer ranks."""

import pytest

from components.simulation import Network, Share, StepRate, Traffic

NETWORK = Network(workers_per_node=4, bytes_in_node=1000.0, bytes_between_nodes=100.0)
ALONE = StepRate(8.0, 1, Share(documents=8, micro_batch=2), Traffic(gradients=0), NETWORK)


def test_what_was_measured_comes_back() -> None:
    for ranks in (1, 3, 8):
        rate = StepRate(8.0, ranks, ALONE.share, Traffic(gradients=40, gathered=20), NETWORK)
        assert rate.step_seconds(rate.share, ranks) == pytest.approx(8.0)


def test_ranks_share_whole_documents() -> None:
    seconds = [ALONE.step_seconds(ALONE.share, ranks) for ranks in (1, 2, 3, 4, 8, 16)]
    assert seconds == pytest.approx([8.0, 4.0, 3.0, 2.0, 1.0, 1.0])


def test_gradients_go_round_a_ring_twice_and_the_slowest_link_decides() -> None:
    rate = StepRate(8.0, 1, ALONE.share, Traffic(gradients=400), NETWORK)
    assert rate.step_seconds(rate.share, 4) == pytest.approx(2.0 + 2 * 0.75 * 400 / 1000.0)
    assert rate.step_seconds(rate.share, 8) == pytest.approx(1.0 + 2 * 0.875 * 400 / 100.0)


def test_stage_3_gathers_in_every_pass_of_every_micro_batch() -> None:
    rate = StepRate(8.0, 1, ALONE.share, Traffic(gradients=0, gathered=100, passes=3), NETWORK)
    # Four documents a rank are two micro-batches of three passes.
    assert rate.step_seconds(rate.share, 2) == pytest.approx(4.0 + 0.5 * 100 * 3 * 2 / 1000.0)


def test_another_share_of_documents_takes_its_part_of_the_time() -> None:
    assert ALONE.step_seconds(Share(documents=4, micro_batch=4), 1) == pytest.approx(4.0)
