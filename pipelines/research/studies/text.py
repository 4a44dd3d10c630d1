"""Numbers and tables of a study as Markdown."""

from collections.abc import Mapping, Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def interval(estimate: Mapping[str, float]) -> str:
    """A number and its interval."""
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def signed(estimate: Mapping[str, float]) -> str:
    """A difference and its interval, with a star where the interval excludes 0."""
    star = " *" if estimate["low"] > 0 or estimate["high"] < 0 else ""
    return f"{estimate['value']:+.3f} ({estimate['low']:+.3f} to {estimate['high']:+.3f}){star}"
