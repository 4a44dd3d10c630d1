"""Who is best: trials by their best evaluation, and what there is to say of each.

The fact a newcomer gets wrong: a value that is nan or inf ranks like none at all, whatever the mode
is. A loss of -inf is no triumph.
"""

import math
from collections import Counter
from collections.abc import Hashable
from typing import Any, get_args

from components.pages.values import Outcome, SearchPage, TrialLine

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def value_of(trial: TrialLine) -> float | None:
    """Its best evaluation; None where there is none that is a number."""
    value = trial.best_value
    return value if value is not None and math.isfinite(value) else None


def best_first(page: SearchPage) -> tuple[TrialLine, ...]:
    """All trials by their best evaluation, those without one last; equal ones as the search had
    them.
    """
    sign = 1.0 if page.mode == "min" else -1.0

    def key(trial: TrialLine) -> tuple[bool, float]:
        value = value_of(trial)
        return value is None, 0.0 if value is None else sign * value

    return tuple(sorted(page.trials, key=key))


def ranked(page: SearchPage) -> tuple[TrialLine, ...]:
    """Those that have a best evaluation, best first."""
    return tuple(trial for trial in best_first(page) if value_of(trial) is not None)


def better(page: SearchPage, first: float, second: float) -> bool:
    """Whether the first value is the better one."""
    return first < second if page.mode == "min" else first > second


def outcome_counts(page: SearchPage) -> dict[Outcome, int]:
    """How many trials ended in which way, in a constant order, only those that occur."""
    counts = Counter(trial.outcome for trial in page.trials)
    return {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}


def told_counts(page: SearchPage) -> str:
    """The same in words: 3 completed, 2 stopped."""
    return ", ".join(f"{count} {outcome}" for outcome, count in outcome_counts(page).items())


def searched(page: SearchPage) -> tuple[str, ...]:
    """Config paths of all points, in the order in which they first occur."""
    return tuple(dict.fromkeys(path for trial in page.trials for path in trial.point))


def varied(page: SearchPage) -> tuple[str, ...]:
    """The paths whose value is not the same in all trials."""
    return tuple(
        path
        for path in searched(page)
        if len({told(trial.point.get(path)) for trial in page.trials}) > 1
    )


def told(value: Any) -> Hashable:
    """The value as a key: numbers and texts as they are, anything else by its text, so that true is
    not 1 and lists can be compared.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        return ("text", repr(value))
    return value


def is_number(value: object) -> bool:
    """Whether it can stand on an axis of numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
