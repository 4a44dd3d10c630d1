"""Kept results: `results/<hardware>.json` holds the latest report of each benchmark on that
hardware, and the tables in README.md are made from these files.

python -m pipelines.research.benchmark step --json step.json
python -m pipelines.research.benchmark.results step.json      # keeps it and renews the tables;
without files, only renews the tables
"""

import json
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.research.benchmark.columns import (
    data_columns,
    memory_columns,
    search_columns,
    startup_columns,
)

HERE = Path(__file__).parent
FOLDER = HERE / "results"
README = HERE / "README.md"
BEGIN, END = (
    "<!-- tables: made by python -m pipelines.research.benchmark.results -->",
    "<!-- end of tables -->",
)
Report = Mapping[str, Any]
Row = Sequence[str]


def hardware_name(hardware: Mapping[str, Any]) -> str:
    """File name of a machine: its GPUs, or its processor and cores."""
    parts = (
        [*hardware["gpus"][:1], f"x{len(hardware['gpus'])}"]
        if hardware["gpus"]
        else [hardware["processor"], f"{hardware['cores']}-cores"]
    )
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower().replace("(r)", "")).strip("-")


def keep(report: Report, folder: Path = FOLDER) -> Path:
    """Put a report into its hardware's file, in place of an earlier one of the same benchmark;
    returns the file.
    """
    file = folder / f"{hardware_name(report['hardware'])}.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps({**kept, report["benchmark"]: report}, indent=2, sort_keys=True) + "\n",
        encoding="utf-8",
    )
    return file


def tables(folder: Path = FOLDER) -> str:
    """All tables, as Markdown."""
    parts = []
    for file in sorted(folder.glob("*.json")):
        for name, report in sorted(json.loads(file.read_text(encoding="utf-8")).items()):
            parts.append(_section(name, report))
    return "\n".join(parts)


def with_tables(readme: str, made: str) -> str:
    """The README's text with the tables renewed. Raises ValueError where the two marks are
    missing.
    """
    before, mark, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"README.md lacks the marks '{BEGIN}' and '{END}'")
    return f"{before}{BEGIN}\n\n{made}\n{END}{after}"


def _section(name: str, report: Report) -> str:
    hardware, versions = report["hardware"], report["versions"]
    machine = ", ".join(hardware["gpus"]) or f"{hardware['processor']}, {hardware['cores']} cores"
    load = report.get("load_average", {})
    about = (
        f"{machine}; torch {versions['torch']}, transformers {versions['transformers']}; matrix "
        f"rate before the run {report['matrix_rate_gflops']:.0f} GFLOP/s"
    )
    about += f"; load average {load['before']} before, {load['after']} after" if load else ""
    head, rows = COLUMNS.get(name, _any_columns)(report["cases"])
    lines = [
        f"### `{name}`",
        "",
        *textwrap.wrap(f"{about}.", 100),
        "",
        _line(head),
        _line(["---"] * len(head)),
        *(_line(row) for row in rows),
        "",
    ]
    return "\n".join(lines)


def _line(cells: Row) -> str:
    return "| " + " | ".join(cells) + " |"


def _share(case: Mapping[str, Any]) -> str:
    share, in_cpu_time = case["share_of_matrix_rate"], case["share_of_matrix_rate_in_cpu_time"]
    return "-" if share is None else f"{share:.0%} ({in_cpu_time:.0%})"


def _step_columns(cases: Sequence[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    """In parentheses: the range of seconds, or the same quotient in processor time."""
    head = (
        "case",
        "peer",
        "threads",
        "ours, s",
        "peer, s",
        "ratio",
        "share of matrix rate",
        "matrix rate, GFLOP/s",
        "peak memory, MiB",
        "largest difference",
    )
    rows: list[Row] = [
        (
            case["case"],
            case["peer"],
            str(case["threads"]),
            _seconds(case["ours"]),
            _seconds(case["theirs"]),
            f"{case['ratio']:.2f} ({case['cpu_ratio']:.2f})"
            + (f", target {case['target']}" if case.get("target") else ""),
            _share(case),
            f"{case['matrix_rate_gflops']:.0f}",
            (
                f"{_mebibytes(case['ours']['peak_memory_bytes'])} / "
                f"{_mebibytes(case['theirs']['peak_memory_bytes'])}"
            ),
            "other method"
            if case["largest_difference"] is None
            else f"{case['largest_difference']:.1e}",
        )
        for case in cases
    ]
    return head, rows


def _length_columns(cases: Sequence[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    """In parentheses: the range of seconds, or the exponent in processor time."""
    head = ("tokens", "ours, s", "stock, s", "ratio", "memory of a step, MiB")
    rows: list[Row] = []
    for case in cases:
        if case["case"] == "growth":
            growth = (_exponent(case, side) for side in ("ours", "theirs"))
            rows.append((f"exponent from {case['fitted_from_tokens']}", *growth, "", ""))
            continue
        mine, other = case["ours"], case["theirs"]
        stock = (_seconds(other), f"{case['ratio']:.2f}") if other else ("-", "-")
        memory = " / ".join(
            _mebibytes(side["step_memory_bytes"]) if side else "-" for side in (mine, other)
        )
        rows.append((str(case["tokens"]), _seconds(mine), *stock, memory))
    return head, rows


def _exponent(case: Mapping[str, Any], side: str) -> str:
    wall, cpu = case[f"exponent_{side}"], case[f"exponent_{side}_in_cpu_time"]
    return "-" if wall is None else f"{wall:.2f} ({cpu:.2f})"


def _any_columns(cases: Sequence[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    names = [
        name
        for name, value in cases[0].items()
        if isinstance(value, (str, int, float)) or value is None
    ]
    return names, [[_plain(case.get(name)) for name in names] for case in cases]


def _plain(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)


def _seconds(side: Mapping[str, Any]) -> str:
    return f"{side['seconds']:.2f} ({side['seconds_min']:.2f} to {side['seconds_max']:.2f})"


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f}"


COLUMNS: dict[str, Callable[[Sequence[Mapping[str, Any]]], tuple[Row, list[Row]]]] = {
    "step": _step_columns,
    "length": _length_columns,
    "search": search_columns,
    "data": data_columns,
    "startup": startup_columns,
    "memory": memory_columns,
}
"""Columns by benchmark; one that is not listed shows the plain values of its cases."""


def main() -> None:
    for name in sys.argv[1:]:
        keep(json.loads(Path(name).read_text(encoding="utf-8")))
    README.write_text(with_tables(README.read_text(encoding="utf-8"), tables()), encoding="utf-8")


if __name__ == "__main__":
    main()
