"""Side-by-side measurements, one file per question.

`BENCHMARKS` names the module that answers each question. A module offers `run(options, say)`
and returns its cases, plain values ready for JSON; `measure` adds what machine and which versions
they were measured on. Both sides of a case run in one process tree, one after the other, and a case
is refused where they did not compute the same.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

BENCHMARKS: dict[str, str] = {
    "step": "pipelines.research.benchmark.step",
    "length": "pipelines.research.benchmark.length",
    "search": "pipelines.research.benchmark.search",
    "read_once": "pipelines.research.benchmark.read_once",
    "attention": "pipelines.research.benchmark.attention",
    "data": "pipelines.research.benchmark.data",
    "startup": "pipelines.research.benchmark.startup",
    "memory": "pipelines.research.benchmark.memory",
    "quantised": "pipelines.research.benchmark.quantised",
    "long_document": "pipelines.research.benchmark.long_document",
    "side_by_side": "pipelines.research.benchmark.side_by_side",
}


@dataclass(frozen=True)
class BenchmarkOptions:
    """`data`: folder of real documents (data sets as sub-folders); without it documents are
    generated. `quick`: fewer repeats, for a look; `full`: nothing is extrapolated, however long it
    takes. `only`: names of cases; empty runs all.
    """

    data: Path | None = None
    quick: bool = False
    full: bool = False
    only: tuple[str, ...] = field(default=())

    def chosen(self, case: str) -> bool:
        return not self.only or case in self.only


def measure(
    name: str, options: BenchmarkOptions, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Run one benchmark; the report's form is in README.md. Raises KeyError for a name that is not
    in BENCHMARKS.
    """
    module = import_module(BENCHMARKS[name])
    from pipelines.research.benchmark.hardware import (
        hardware,
        load_average,
        matrix_rate_gflops,
        versions,
    )

    before, rate = load_average(), matrix_rate_gflops()
    cases = module.run(options, say)
    return {
        "benchmark": name,
        "hardware": hardware(),
        "versions": versions(),
        "matrix_rate_gflops": rate,
        "load_average": {"before": before, "after": load_average()},
        "cases": cases,
    }
