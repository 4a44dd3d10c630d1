"""Numbers, times and settings as a page writes them: rounded to what they mean, with their units.

Unknown is "-", and nan and inf are written as such: a page never hides them.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

NONE = "-"
LONG_TIMES = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
"""Seconds of a unit and of the next smaller one."""


def score(value: float | None) -> str:
    """A metric: three decimals, or three digits where it is small or large."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3f}"
    return f"{value:.2e}"


def tokens(count: float) -> str:
    """A number of tokens: 950, 12 k, 1.2 M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {letter}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """A time in its two largest units: 45 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(seconds):
        return NONE
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{whole} s"
    size, unit, part, smaller = next(each for each in LONG_TIMES if whole >= each[0])
    rest = whole % size // part
    return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")


def memory(size: int | None) -> str:
    """Bytes: 512 MiB, 1.3 GiB."""
    if size is None:
        return NONE
    for unit, letter in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {letter}"
    return f"{size} B"


def setting(value: Any) -> str:
    """A searched value: 4, 5e-3, true, mean."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and math.isfinite(value):
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        if value != 0 and abs(value) < 0.01 and not exponent:
            mantissa, _, exponent = f"{value:.2e}".partition("e")
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    return str(value)


def point(values: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A point in one line: prefix_length=4, learning_rate=5e-3."""
    return ", ".join(f"{names[path]}={setting(value)}" for path, value in values.items())


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The last part of each config path, or all of it where two end alike."""
    ends = [path.rpartition(".")[2] for path in paths]
    return {
        path: end if ends.count(end) == 1 else path for path, end in zip(paths, ends, strict=True)
    }
