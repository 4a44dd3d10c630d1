"""Constructed searches for the pictures: what a search of one to many trials may have left."""

import math
import random
from dataclasses import replace

from components.pages import (
    Evaluation,
    GateVerdict,
    Outcome,
    Rule,
    Score,
    SearchPage,
    TrialLine,
)

PREFIX, RATE = "adapter.prefix_length", "optimizer.learning_rate"
TOKENS_PER_STEP = 8_192
MIB = 2**20


def trial(
    number: int,
    point: dict[str, object],
    values: list[float],
    *,
    outcome: Outcome = "completed",
    reason: str = "",
    mode: str = "max",
    every: int = 15,
) -> TrialLine:
    """A trial with these evaluations, one every `every` steps."""
    curve = tuple(
        Evaluation(step, step * TOKENS_PER_STEP, step * 1.3, value)
        for step, value in zip(range(every, 10**6, every), values, strict=False)
    )
    finite = [each for each in curve if math.isfinite(each.value)]
    choose = max if mode == "max" else min
    best = choose(finite, key=lambda each: each.value) if finite else None
    told = " ".join(f"{path.rpartition('.')[2][:6]}={value}" for path, value in point.items())
    prefix = point.get(PREFIX, 8)
    return TrialLine(
        name=f"{number:03d} {told}",
        point=point,
        outcome=outcome,
        reason=reason,
        curve=curve,
        best_value=best.value if best else None,
        best_step=best.step if best else None,
        tokens=curve[-1].tokens if curve else 0,
        seconds=curve[-1].seconds if curve else 2.0,
        peak_memory_bytes=700 * MIB + number * MIB,
        trainable_parameters=int(prefix) * 3_072 + 1_540 if isinstance(prefix, int) else None,
        url=f"http://127.0.0.1:5000/#/experiments/1/runs/{number:032x}",
    )


def short_name(number: int, point: dict[str, object]) -> str:
    rate = f"{point[RATE]:.0e}".replace("e-0", "e-")
    return f"{number:03d} P={point[PREFIX]} lr={rate}"


def curve(
    draw: random.Random, top: float, count: int, *, mode: str = "max", start: float = 0.25
) -> list[float]:
    """A learning curve towards `top`."""
    return [
        start + (top - start) * (1 - math.exp(-0.6 * place)) + draw.gauss(0, 0.012)
        for place in range(1, count + 1)
    ]


def page_of(trials: list[TrialLine], **changes: object) -> SearchPage:
    """A page round these trials, complete."""
    values: dict[str, object] = {
        "experiment": "demo",
        "metric": "validation/accuracy",
        "mode": "max",
        "trials": tuple(trials),
        "started": "28 Nov 2026 10:34 UTC",
        "seconds": 433.0,
        "tokens": sum(each.tokens for each in trials),
        "command": "prefixprop search demo --set search.num_trials=6",
        "code_version": "8d928a2 (tree clean)",
        "description": "To which department does a customer complain?",
        "data": {
            "documents": "480 train, 120 validation, 240 test",
            "source": "letters (generated), seed 7",
            "cut": "at 128 tokens; none was cut",
            "fingerprint": "446edf2b70fd3fe3",
        },
        "links": {
            "search": "http://127.0.0.1:5000/#/experiments/1/runs/0f",
            "registered version": "http://127.0.0.1:5000/#/models/demo/versions/4",
        },
        "registered": "demo version 4",
        "alias": "champion",
        "champion_before": "version 3",
        "gate": GateVerdict(
            "promote",
            ("better than the champion: test accuracy 0.9167 against 0.8542",),
            (
                Rule("required_gain", True, "gain +0.0625 (+0.0208 to +0.1083)"),
                Rule("max_ece_increase", True, "ece 0.0410 against 0.0480, 0.02 more is allowed"),
                Rule("slice class billing", True, "accuracy -0.0200 on 50 documents"),
            ),
        ),
        "scores": (
            Score("version 4", 0.9167, 0.875, 0.9454, "challenger"),
            Score("version 3", 0.8542, 0.804, 0.893, "champion"),
            Score("majority", 0.25, 0.199, 0.308),
            Score("bag of words", 0.483, 0.421, 0.546),
        ),
        "test_metrics": {"macro F1": 0.9152, "nll": 0.243, "ece": 0.041},
        "calibration": {"temperature": 1.31, "ECE before": 0.081, "ECE after": 0.041},
    }
    return SearchPage(**(values | changes))  # type: ignore[arg-type]


def one() -> SearchPage:
    """A single trial, no gate, nobody to compare with."""
    draw = random.Random(1)
    point = {PREFIX: 4, RATE: 5e-3}
    only = replace(trial(1, point, curve(draw, 0.9, 6)), name=short_name(1, point), registered=True)
    return page_of([only], gate=None, scores=(), champion_before="")


def two(mode: str = "max") -> SearchPage:
    """Two trials that end at nearly the same value."""
    points = [{PREFIX: 4, RATE: 5e-3}, {PREFIX: 8, RATE: 1e-2}]
    values = [[0.53, 0.7, 0.8, 0.9], [0.5, 0.72, 0.81, 0.904]]
    trials = [
        replace(trial(number, point, each, mode=mode), name=short_name(number, point))
        for number, (point, each) in enumerate(zip(points, values, strict=True))
    ]
    return page_of(trials, mode=mode)


def six() -> SearchPage:
    """The demo: a grid of P and rate; three stopped, one diverged."""
    draw = random.Random(6)
    made = []
    for number, (prefix, rate, top, count, outcome) in enumerate(
        (
            (4, 5e-3, 0.62, 4, "stopped"),
            (4, 1e-2, 0.78, 8, "completed"),
            (8, 5e-3, 0.71, 4, "stopped"),
            (8, 1e-2, 0.93, 8, "completed"),
            (16, 5e-3, 0.66, 2, "stopped"),
            (16, 1e-2, 0.60, 3, "diverged"),
        )
    ):
        point = {PREFIX: prefix, RATE: rate}
        values = curve(draw, top, count)
        reason = {
            "stopped": "among the worse half at its rung",
            "diverged": "the loss was nan at step 45",
        }.get(outcome, "")
        if outcome == "diverged":
            values[-1] = math.nan
        line = trial(number, point, values, outcome=outcome, reason=reason)  # type: ignore[arg-type]
        made.append(replace(line, name=short_name(number, point), registered=number == 3))
    return page_of(made)


def many(count: int, *, settings: int = 2, mode: str = "max", seed: int = 3) -> SearchPage:
    """A random search: the rate over three powers of ten, lengths, with three a text too. Some are
    stopped, some diverge to inf or have no evaluation at all.
    """
    draw = random.Random(seed)
    made = []
    for number in range(count):
        rate = float(f"{10 ** draw.uniform(-4.2, -1):.2g}")
        point: dict[str, object] = {PREFIX: draw.choice([2, 4, 8, 16, 32]), RATE: rate}
        if settings > 2:
            point["head.pooling"] = draw.choice(["prefix", "mean", "cls"])
        if settings > 3:
            point["adapter.dropout"] = round(draw.uniform(0, 0.5), 3)
            point["optimizer.weight_decay"] = draw.choice([0.0, 0.01, 0.1])
        off = abs(math.log10(rate) + 2.2)
        top = 0.95 - 0.16 * off - 0.02 * abs(math.log2(int(str(point[PREFIX]))) - 3)
        evaluations = draw.choice([2, 4, 8, 16])
        outcome: Outcome = "completed" if evaluations == 16 else "stopped"
        values = curve(draw, max(top, 0.27), evaluations)
        if rate > 0.05:
            outcome, values = "diverged", [*values[:2], math.inf, math.nan]
        if number % 23 == 11:
            outcome, values = "infeasible", []
        if number % 31 == 17:
            outcome = "lost"
        if mode == "min":
            values = [2.2 * (1 - value) if math.isfinite(value) else value for value in values]
            values = [*values, 1e6] if outcome == "diverged" else values
        line = trial(number, point, values, outcome=outcome, mode=mode)
        made.append(replace(line, name=short_name(number, point)))
    metric = "validation/accuracy" if mode == "max" else "validation/nll"
    return page_of(made, mode=mode, metric=metric)


def grid(count_a: int = 4, count_b: int = 6) -> SearchPage:
    """24 trials on a grid."""
    draw = random.Random(4)
    rates = [1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2][:count_b]
    made = []
    for number, (prefix, rate) in enumerate(
        (prefix, rate) for prefix in [2, 4, 8, 16][:count_a] for rate in rates
    ):
        point = {PREFIX: prefix, RATE: rate}
        off = abs(math.log10(rate) + 2)
        top = 0.94 - 0.2 * off - 0.02 * abs(math.log2(prefix) - 3)
        outcome: Outcome = "stopped" if top < 0.85 else "completed"
        values = curve(draw, top, 8 if outcome == "completed" else draw.choice([2, 4]))
        if rate == 5e-2 and prefix == 16:
            outcome, values = "diverged", [math.nan]
        if rate == 5e-2 and prefix == 2:
            outcome, values = "infeasible", []
        made.append(
            replace(trial(number, point, values, outcome=outcome), name=short_name(number, point))
        )
    return page_of(made)


def texts() -> SearchPage:
    """One searched setting, of texts."""
    draw = random.Random(5)
    made = [
        trial(number, {"head.pooling": pooling}, curve(draw, top, 6))
        for number, (pooling, top) in enumerate(
            (("prefix", 0.9), ("mean", 0.82), ("cls", 0.86), ("last", 0.6))
        )
    ]
    return page_of(made)


def rates(mode: str = "max") -> SearchPage:
    """One searched setting, a rate over four powers of ten."""
    draw = random.Random(7)
    made = []
    for number in range(12):
        rate = 10 ** (-5 + number * 4 / 11)
        values = curve(draw, 0.9 - 0.2 * abs(math.log10(rate) + 2.5), 6)
        values = [1 - value for value in values] if mode == "min" else values
        made.append(trial(number, {RATE: float(f"{rate:.2g}")}, values, mode=mode))
    made.append(trial(12, {RATE: 0.5}, [math.nan], outcome="diverged", mode=mode))
    return page_of(
        made, mode=mode, metric="validation/nll" if mode == "min" else "validation/accuracy"
    )


def without_any_evaluation() -> SearchPage:
    points = [{PREFIX: 4, RATE: 1e-3}, {PREFIX: 8, RATE: 1e-3}]
    made = [
        trial(0, points[0], [], outcome="infeasible", reason="needs 40 GiB, 24 GiB are there"),
        trial(1, points[1], [math.nan, math.inf], outcome="diverged"),
    ]
    return page_of(made, gate=None, scores=(), registered="", alias="")


HOSTILE = "<script>alert('x')</script> $\\frac{1}{$ \"&\n\x00 " + "long " * 40


def hostile() -> SearchPage:
    """Whatever a text may be, it is one here."""
    made = [
        replace(
            trial(number, {HOSTILE: HOSTILE[number:], "b": value, "c": True}, [0.1, 0.2]),
            name=f"{number}{HOSTILE}",
            reason=HOSTILE,
            url=f"javascript:alert('{number}')",
        )
        for number, value in enumerate((None, [1, 2], "$x", 3.5))
    ]
    return page_of(
        made,
        experiment=HOSTILE,
        metric=HOSTILE,
        started=HOSTILE,
        command=HOSTILE,
        code_version=HOSTILE,
        description=HOSTILE,
        data={HOSTILE: HOSTILE},
        links={HOSTILE: "javascript:alert(1)"},
        registered=HOSTILE,
        alias=HOSTILE,
        champion_before=HOSTILE,
        gate=GateVerdict(HOSTILE, (HOSTILE,), (Rule(HOSTILE, False, HOSTILE),)),
        test_metric=HOSTILE,
        scores=(Score(HOSTILE, 0.5, 0.4, 0.6, "challenger"), Score(HOSTILE, math.nan)),
        test_metrics={HOSTILE: 0.5},
        calibration={HOSTILE: math.inf},
    )


ALL = {
    "one": one,
    "two": two,
    "two_min": lambda: two("min"),
    "six": six,
    "grid24": grid,
    "random24": lambda: many(24),
    "three_settings24": lambda: many(24, settings=3),
    "five_settings24_min": lambda: many(24, settings=5, mode="min"),
    "random200": lambda: many(200),
    "three_settings200": lambda: many(200, settings=3),
    "min200": lambda: many(200, settings=3, mode="min"),
    "texts": texts,
    "rates": rates,
    "rates_min": lambda: rates("min"),
    "none": without_any_evaluation,
    "hostile": hostile,
}
