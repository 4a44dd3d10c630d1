"""How numbers and pairs of name and value are written on a terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from pipelines.command_line.printable import printable


def pairs(console: Console, rows: Mapping[str, Any]) -> None:
    """One aligned line per entry; long values are not wrapped, so that they can be copied."""
    width = max(len(name) for name in rows) + 2
    for name, value in rows.items():
        line = printable(f"{name:<{width}}{value}")
        console.print(line, markup=False, soft_wrap=True)


def gib(number_of_bytes: float) -> str:
    return f"{number_of_bytes / 1024**3:.1f} GiB"


def mib(number_of_bytes: float) -> str:
    return f"{number_of_bytes / 1024**2:,.0f} MiB"
