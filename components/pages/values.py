"""What is known of a finished search, as plain values that a page is made of.

The fact a newcomer gets wrong: a trial counts by its BEST evaluation, which the search chose by,
and not by its last one. Texts may hold anything: what shows them makes them harmless.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["completed", "stopped", "diverged", "infeasible", "failed", "lost", "interrupted"]
Contestant = Literal["challenger", "champion", "baseline"]


@dataclass(frozen=True)
class Evaluation:
    """One point of a trial's curve: optimizer steps, tokens and seconds so far, and the metric that
    the search chose by; nan and inf are allowed.
    """

    step: int
    tokens: int
    seconds: float
    value: float


@dataclass(frozen=True)
class TrialLine:
    """One trial. `name` is short, such as "001 P=4 lr=5e-3"; `point`: config path -> searched
    value; `best_value`, `best_step`: of its best evaluation, None where it has none; `tokens` and
    `seconds`: all that it took; `url`: of its run; `registered`: its adapter became a version.
    """

    name: str
    point: Mapping[str, Any]
    outcome: Outcome
    reason: str = ""
    curve: tuple[Evaluation, ...] = ()
    best_value: float | None = None
    best_step: int | None = None
    tokens: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int | None = None
    trainable_parameters: int | None = None
    registered: bool = False
    url: str = ""


@dataclass(frozen=True)
class Score:
    """A contestant's test metric with its 95% interval, None where there is none. `name`: who, such
    as "version 4" or "majority".
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: Contestant = "baseline"


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: whether it holds, and its numbers in one line."""

    name: str
    holds: bool
    line: str


@dataclass(frozen=True)
class GateVerdict:
    """What the gate decided, in one word (such as "promote") and in sentences, with every rule."""

    verdict: str
    reasons: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class SearchPage:
    """A finished search.

    `metric` and `mode` ("max", "min") choose among trials; `test_metric` is what `scores` are of:
    challenger, champion before and baselines, where they are known. `started`: as people read it;
    `seconds`: wall time; `tokens`: trained on by all trials. `test_metrics`, `calibration`: name ->
    number. `data`: fact -> text (source, documents, fingerprint, ...). `links`: text -> address.
    `registered`: "demo version 4"; `alias`: what it is now; `champion_before`: "version 3".
    """

    experiment: str
    metric: str
    mode: Literal["max", "min"]
    trials: tuple[TrialLine, ...]
    started: str = ""
    seconds: float = 0.0
    tokens: int = 0
    command: str = ""
    code_version: str = ""
    description: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    registered: str = ""
    alias: str = ""
    champion_before: str = ""
    gate: GateVerdict | None = None
    test_metric: str = "accuracy"
    scores: tuple[Score, ...] = ()
    test_metrics: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, float] = field(default_factory=dict)
