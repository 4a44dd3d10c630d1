"""Losses of 20 training steps stay what they were (golden.py says how the file is made)."""

import json

import pytest

from components.adapters import ADAPTERS
from tests.components.adapters.golden import GOLDEN, STEPS, losses

# Float32 rounding of another CPU's kernels, grown over 20 steps of AdamW at learning rate 1e-2.
TOLERANCE = 1e-4


@pytest.mark.parametrize("method", ADAPTERS)
def test_losses_equal_the_golden_ones(method: str) -> None:
    golden = json.loads(GOLDEN.read_text())["losses"][method]
    assert len(golden) == STEPS and golden[-1] < golden[0]
    assert losses(method) == pytest.approx(golden, abs=TOLERANCE)
