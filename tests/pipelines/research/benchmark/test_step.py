"""The arithmetic behind the share of the matrix rate, and sides that take turns. Speed itself is
not tested: it is measured (README.md of the package).
"""

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from pipelines.research.benchmark.arithmetic import linear_parameters, longformer_pairs, step_flops
from pipelines.research.benchmark.length import exponent
from pipelines.research.benchmark.sides import Turns, Values, largest_difference, take_turns
from pipelines.research.benchmark.step import MINILM
from pipelines.research.benchmark.step_sides import DECODER


@pytest.mark.parametrize(
    ("rows", "window", "global_rows"), [(40, 8, 3), (5, 8, 1), (17, 4, 17), (9, 2, 0)]
)
def test_pairs_are_those_of_the_dense_definition(rows: int, window: int, global_rows: int) -> None:
    dense = sum(
        query < global_rows or key < global_rows or abs(query - key) <= window // 2
        for query in range(rows)
        for key in range(rows)
    )
    assert longformer_pairs(rows, window=window, global_rows=global_rows) == dense


def test_flops_of_a_step_at_4096_tokens() -> None:
    assert linear_parameters(MINILM) == 10_616_832
    linear = 4 * 10_616_832 * 4096
    assert step_flops(MINILM, batch=1, tokens=4096, prefix_length=8) - linear == pytest.approx(
        30.7e9, rel=0.01
    )


def test_decoder_parameters_are_those_of_the_real_modules() -> None:
    from torch import nn
    from transformers import LlamaConfig, LlamaModel

    small = DECODER | {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    model = LlamaModel(LlamaConfig(**small))
    real = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    assert linear_parameters(small) == real


def test_exponent_of_a_quadratic_is_two() -> None:
    assert exponent(
        [(tokens, 3.0 * tokens**2) for tokens in (512, 2048, 4096, 8192)]
    ) == pytest.approx(2.0)
    assert exponent([(2048, 1.0)]) is None


def a_side(settings: Mapping[str, Any], turns: Turns) -> Values:
    print("noise that must not reach stdout")
    total = np.zeros(1)
    while turns.wait():
        total = total + settings["step"]
        turns.done(time.monotonic())
    return {"total": total, "pid": np.array([os.getpid()])}


def a_broken_side(settings: Mapping[str, Any], turns: Turns) -> Values:
    raise ValueError("broken on purpose")


@pytest.mark.slow
def test_sides_take_turns_in_processes_of_their_own(capfd: pytest.CaptureFixture[str]) -> None:
    sides = [
        ("tests.pipelines.research.benchmark.test_step:a_side", {"step": step})
        for step in (1.0, 5.0)
    ]
    ours, theirs = take_turns(sides, repeats=3, warm_up=1)
    assert len(ours.seconds) == len(theirs.seconds) == len(ours.cpu_seconds) == 3
    merged = [
        seconds for pair in zip(ours.seconds, theirs.seconds, strict=True) for seconds in pair
    ]
    assert merged == sorted(merged)
    assert (ours.values["total"][0], theirs.values["total"][0]) == (4.0, 20.0)
    assert ours.values["pid"] != theirs.values["pid"]
    assert 0 < ours.resident_bytes <= ours.peak_bytes
    assert capfd.readouterr().out == ""
    assert (
        largest_difference({"total": ours.values["total"]}, {"total": theirs.values["total"]})
        == 16.0
    )
    with pytest.raises(AssertionError, match="total"):
        largest_difference({"total": np.zeros(2)}, {"total": np.zeros(3)})


def test_a_side_that_fails_ends_the_comparison() -> None:
    with pytest.raises(RuntimeError, match="process ended"):
        take_turns([("tests.pipelines.research.benchmark.test_step:a_broken_side", {})], repeats=1)
