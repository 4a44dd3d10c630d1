"""The decision: every rule with its numbers, and the verdict that follows.

* promote: the rule for the gain is met and no other rule is broken;
* reject: the two cannot be compared, or the challenger is shown to be worse;
* hold: everything else. Nothing changes, and more documents may decide.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from components.evaluation.calibration import Floats, Integers, ece, top_class
from components.evaluation.gate.gain import Gain, correct_of, gain_of
from components.evaluation.gate.settings import GateConfig
from components.evaluation.gate.slices import SliceGain, slice_gains
from components.evaluation.metrics import brier, nll
from components.evaluation.significance import McNemar, mcnemar, seed_averaged_correct

Verdict = Literal["promote", "hold", "reject"]
SLICE_ALPHA = 0.05


@dataclass(frozen=True)
class Answers:
    """One adapter's answers to the deciding documents: calibrated probabilities (N, C) of each of
    its trainings (seeds), and what it is.
    """

    probabilities: tuple[Floats, ...]
    task: str
    labels: tuple[str, ...]
    backbone: str
    """Name and revision."""
    parameters: int
    seconds_per_document: float | None = None


@dataclass(frozen=True)
class Check:
    """One rule: what was found, what was allowed, and whether it holds, in one line for people."""

    rule: str
    passed: bool
    found: float | None
    allowed: float | None
    line: str


@dataclass(frozen=True)
class Decision:
    """The verdict with every number. `gain` and `mcnemar` are None where the two cannot be
    compared.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    slices: tuple[SliceGain, ...]
    gain: Gain | None
    mcnemar: McNemar | None
    metric: str
    documents: int
    seeds: int
    alpha: float
    """What this decision may spend."""
    number: int
    """The how-manieth decision on this test set it is."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def spendable_alpha(alpha: float, number: int) -> float:
    """What the `number`-th decision on one test set may spend: 6 alpha / (pi number)^2, which sums
    to alpha however many there will be.
    """
    return 6.0 * alpha / (math.pi * number) ** 2


def decide(
    challenger: Answers,
    champion: Answers,
    *,
    labels_N: Integers,
    lengths_N: Integers,
    class_names: Sequence[str],
    rules: GateConfig,
    number: int = 1,
) -> Decision:
    """Compare two adapters on the documents `labels_N` (class ids, in the order of `class_names`)
    of `lengths_N` tokens. Raises ValueError where answers and documents do not match.
    """
    alpha = spendable_alpha(rules.alpha, number)
    about: dict[str, Any] = {
        "metric": rules.metric,
        "documents": len(labels_N),
        "seeds": len(challenger.probabilities),
        "alpha": alpha,
        "number": number,
    }
    differences = incomparable(challenger, champion)
    if differences or len(labels_N) < 2:
        reasons = differences or ("there are fewer than two documents to decide on",)
        return Decision("reject" if differences else "hold", reasons, (), (), None, None, **about)
    _check_shapes(challenger, champion, labels_N)
    ours, theirs = challenger.probabilities, champion.probabilities
    gain = gain_of(rules.metric, ours, theirs, labels_N, alpha=alpha)
    gains_N = correct_of(ours, labels_N) - correct_of(theirs, labels_N)
    allowed: dict[str, Any] = {"margin": rules.slice_margin, "length_edges": rules.length_edges}
    slices = slice_gains(gains_N, labels_N, lengths_N, class_names=class_names, **allowed)
    test = mcnemar(seed_averaged_correct(ours, labels_N), seed_averaged_correct(theirs, labels_N))
    shown = _gain_check(gain, test, rules, alpha)
    limits = (
        *_calibration_checks(challenger, champion, labels_N, rules),
        *_slice_checks(slices, rules),
        *_cost_checks(challenger, champion, rules),
    )
    broken = tuple(check.line for check in limits if not check.passed)
    if gain.high < 0:
        verdict: Verdict = "reject"
        reasons = (f"the challenger is worse: {_in_words(gain, rules)}", *broken)
    elif shown.passed and not broken:
        verdict, reasons = "promote", (shown.line,)
    else:
        verdict, reasons = "hold", broken if shown.passed else (shown.line, *broken)
    return Decision(verdict, reasons, (shown, *limits), slices, gain, test, **about)


def incomparable(challenger: Answers, champion: Answers) -> tuple[str, ...]:
    """Why the two cannot be compared; empty where they can."""
    pairs = (
        ("task", challenger.task, champion.task),
        ("label set", _listed(challenger.labels), _listed(champion.labels)),
        ("backbone", challenger.backbone, champion.backbone),
    )
    return tuple(
        f"{what}: the challenger has {ours}, the champion {theirs}"
        for what, ours, theirs in pairs
        if ours != theirs
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "no classes"


def _check_shapes(challenger: Answers, champion: Answers, labels_N: Integers) -> None:
    if not challenger.probabilities or not champion.probabilities:
        raise ValueError("a decision needs answers of both, at least one training each")
    for each_NC in (*challenger.probabilities, *champion.probabilities):
        if len(each_NC) != len(labels_N):
            raise ValueError(f"{len(each_NC)} answers for {len(labels_N)} documents")
        if not np.isfinite(each_NC).all():
            raise ValueError("answers hold values that are no numbers")


def _in_words(gain: Gain, rules: GateConfig) -> str:
    return (
        f"test {rules.metric} {gain.challenger:.4f} against {gain.champion:.4f}, gain "
        f"{gain.gain:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
    )


def _gain_check(gain: Gain, test: McNemar, rules: GateConfig, alpha: float) -> Check:
    """The rule for the gain. A bootstrap knows little of rare differences: that an accuracy is
    better at all, McNemar's exact test has to confirm.
    """
    if rules.margin is not None:
        passed, allowed = gain.low > -rules.margin, -rules.margin
        said = "not worse" if passed else "not shown to be no worse"
        line = f"{said} than the champion by {rules.margin:g} or more: {_in_words(gain, rules)}"
        return Check("margin", passed, gain.low, allowed, line)
    passed, allowed = gain.low > rules.required_gain, rules.required_gain
    if rules.metric == "accuracy":
        passed = passed and test.p_value <= 2 * alpha
    said = "better than the champion" if passed else "not shown to be better than the champion"
    by = f" by more than {allowed:g}" if allowed else ""
    line = f"{said}{by}: {_in_words(gain, rules)}"
    return Check("required_gain", passed, gain.low, allowed, line)


def _calibration_checks(
    challenger: Answers, champion: Answers, labels_N: Integers, rules: GateConfig
) -> tuple[Check, ...]:
    limits = (
        ("nll", lambda each_NC: nll(each_NC, labels_N), rules.max_nll_increase),
        ("brier", lambda each_NC: brier(each_NC, labels_N), rules.max_brier_increase),
        ("ece", lambda each_NC: ece(*top_class(each_NC, labels_N)), rules.max_ece_increase),
    )
    checks = []
    for name, measure, limit in limits:
        if limit is None:
            continue
        ours, theirs = (
            float(np.mean([measure(each_NC) for each_NC in answers.probabilities]))
            for answers in (challenger, champion)
        )
        line = f"{name} {ours:.4f} against {theirs:.4f}, {limit:g} more is allowed"
        checks.append(
            Check(f"max_{name}_increase", ours - theirs <= limit, ours - theirs, limit, line)
        )
    return tuple(checks)


def _slice_checks(slices: Sequence[SliceGain], rules: GateConfig) -> tuple[Check, ...]:
    checks = []
    for each in slices:
        if each.gain is None or each.p_value is None:
            line = f"{each.name}: no document to judge by"
            checks.append(Check(f"slice {each.name}", False, None, -rules.slice_margin, line))
            continue
        line = (
            f"{each.name}: accuracy {each.gain:+.4f} on {each.documents} documents, a fall of "
            f"{rules.slice_margin:g} is allowed (p = {each.p_value:.3g})"
        )
        passed = each.p_value >= SLICE_ALPHA
        checks.append(Check(f"slice {each.name}", passed, each.gain, -rules.slice_margin, line))
    return tuple(checks)


def _cost_checks(challenger: Answers, champion: Answers, rules: GateConfig) -> tuple[Check, ...]:
    checks = []
    if rules.max_parameters is not None:
        ours, allowed = challenger.parameters, rules.max_parameters
        line = f"{ours:,} trained parameters, {allowed:,} are allowed"
        checks.append(Check("max_parameters", ours <= allowed, ours, allowed, line))
    seconds = (challenger.seconds_per_document, champion.seconds_per_document)
    if rules.max_latency_ratio is not None:
        if seconds[0] is None or not seconds[1]:
            line = "the time per document was not measured"
            found, passed = None, False
        else:
            found = seconds[0] / seconds[1]
            passed = found <= rules.max_latency_ratio
            line = (
                f"{seconds[0] * 1000:.1f} ms per document against {seconds[1] * 1000:.1f} ms, "
                f"{rules.max_latency_ratio:g} times that is allowed"
            )
        checks.append(Check("max_latency_ratio", passed, found, rules.max_latency_ratio, line))
    return tuple(checks)
