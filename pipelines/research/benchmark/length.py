"""Step time and memory against document length, one document at a time, and the exponent with which
time grows.

Exponents are fitted by least squares of log(seconds) on log(tokens) over 2,048 tokens and more: 1
is linear.
"""

import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.sides import take_turns
from pipelines.research.benchmark.step import SAME_VALUES, compared, side_settings

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
FITTED_FROM = 2048
STOCK_UP_TO = 4096
Say = Callable[[str], None]


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """One case per length and one with the exponents. 5 steps of each side (`quick`: 2); the peer
    takes part up to 4,096 tokens (`full`: everywhere).
    """
    lengths = [tokens for tokens in LENGTHS if options.chosen(f"length_{tokens}")]
    repeats = 2 if options.quick else 5
    cases = [
        measure_length(
            tokens,
            repeats=repeats,
            with_peer=options.full or tokens <= STOCK_UP_TO,
            say=say,
        )
        for tokens in lengths
    ]
    summary = {
        "case": "growth",
        "peer": "stock",
        "fitted_from_tokens": FITTED_FROM,
        **{
            f"exponent_{side}{suffix}": exponent(
                [(case["tokens"], case[side][clock]) for case in cases if case[side]]
            )
            for side in ("ours", "theirs")
            for clock, suffix in (("seconds", ""), ("cpu_seconds", "_in_cpu_time"))
        },
    }
    say(
        f"step time grows with length to the power {summary['exponent_ours']} (stock: "
        f"{summary['exponent_theirs']})"
    )
    return [*cases, summary]


def measure_length(tokens: int, *, repeats: int, with_peer: bool, say: Say) -> dict[str, Any]:
    """One document of `tokens` text tokens."""
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as folder:
        settings = side_settings("minilm", batch=1, tokens=tokens, folder=folder)
        sides = [
            ("pipelines.research.benchmark.step_sides:adapted", settings | {"attention": attention})
            for attention in ("auto", "stock")[: 1 + with_peer]
        ]
        results = take_turns(sides, repeats=repeats)
    summaries = [result.summary(tokens) for result in results]
    say(
        f"{tokens} tokens: "
        + " against ".join(
            f"{one['seconds']:.3f} s, {one['step_memory_bytes'] / 2**20:.0f} MiB"
            for one in summaries
        )
    )
    return {
        "case": f"length_{tokens}",
        "peer": "stock",
        "tokens": tokens,
        "ours": summaries[0],
        "theirs": summaries[1] if with_peer else None,
        "ratio": summaries[0]["tokens_per_second"] / summaries[1]["tokens_per_second"]
        if with_peer
        else None,
        "largest_difference": compared(
            *results, tolerance=SAME_VALUES["float32"], name=f"length_{tokens}"
        )
        if with_peer
        else None,
    }


def exponent(points: Sequence[tuple[int, float]]) -> float | None:
    """Slope of log(seconds) over log(tokens) from FITTED_FROM on; None with fewer than two points
    there.
    """
    logs = [
        (math.log(tokens), math.log(seconds)) for tokens, seconds in points if tokens >= FITTED_FROM
    ]
    if len(logs) < 2:
        return None
    return statistics.linear_regression(*zip(*logs, strict=True)).slope
