"""Where a value stands on an axis from 0 to 1, whatever kind of value it is: numbers evenly or by
their logarithm, few of them or texts side by side.

The fact a newcomer gets wrong: searched values need not be numbers, and a point need not have every
path (the settings of a method that another trial does not use). Such a trial stands at MISSING.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from components.pages import quantities
from components.pages.ranking import is_number, told

MISSING = -0.14
"""Below the axis: no such value."""
SIDE_BY_SIDE = 8
"""So many different numbers stand side by side, each with its own tick."""
MOST_TICKS = 8
LOGARITHMIC = 20.0
"""From this ratio of the largest to the smallest on."""


@dataclass(frozen=True)
class Scale:
    """`place`: value -> 0 to 1, or MISSING; `ticks`: (place, text)."""

    place: Callable[[Any], float]
    ticks: tuple[tuple[float, str], ...]


def scale_of(values: Iterable[Any], *, side_by_side: int = SIDE_BY_SIDE) -> Scale:
    """The scale that these values can be read on; None among them is no value."""
    present = [value for value in values if value is not None]
    keys = list(dict.fromkeys(told(value) for value in present))
    if all(is_number(value) for value in present):
        numbers = sorted(set(present))
        if len(numbers) > side_by_side:
            return number_scale(numbers)
        keys = [told(value) for value in numbers]
    return _side_by_side(keys, {told(value): value for value in present})


def _side_by_side(keys: Sequence[Hashable], values: dict[Hashable, Any]) -> Scale:
    last = len(keys) - 1
    places = {key: place / last if last else 0.5 for place, key in enumerate(keys)}
    every = max(1, math.ceil(len(keys) / 24))
    return Scale(
        place=lambda value: MISSING if value is None else places[told(value)],
        ticks=tuple((places[key], quantities.setting(values[key])) for key in keys[::every]),
    )


def number_scale(numbers: Sequence[float], *, text: Callable[[float], str] | None = None) -> Scale:
    """Evenly, or by the logarithm where they are positive and far apart. `text`: how a tick is
    written.
    """
    low, high = min(numbers), max(numbers)
    logarithmic = low > 0 and high / low >= LOGARITHMIC
    measure = math.log10 if logarithmic else float
    start, span = measure(low), measure(high) - measure(low)
    written = text or quantities.setting

    def place(value: float | None) -> float:
        if value is None:
            return MISSING
        return (measure(value) - start) / span if span else 0.5

    ticks = _log_ticks(low, high) if logarithmic else _even_ticks(low, high)
    return Scale(place, tuple((place(tick), written(tick)) for tick in ticks))


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten, or fewer of them where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [
            tick
            for power in powers
            for digit in digits
            if low * 0.999 <= (tick := float(f"{digit}e{power}")) <= high * 1.001
        ]
        if len(ticks) <= MOST_TICKS:
            return ticks
    return ticks[:: math.ceil(len(ticks) / MOST_TICKS)]


def _even_ticks(low: float, high: float) -> list[float]:
    """Round numbers between both ends."""
    from matplotlib.ticker import MaxNLocator

    if low == high:
        return [low]
    found = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in found if low <= tick <= high]
