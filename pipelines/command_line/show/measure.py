"""Comparisons, studies and benchmarks as people read them on a terminal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pipelines.command_line.leaderboard import duration
from pipelines.command_line.show.figures import pairs

if TYPE_CHECKING:
    from pipelines.reports import (
        CompareReport,
        StudyReport,
    )


def show_study(console: Console, report: "StudyReport") -> None:
    """Where the findings are; the findings themselves are Markdown to be read there."""
    findings = (report.folder / "findings.md").read_text(encoding="utf-8")
    answer = (
        findings.split("## Answer")[1].split("\n## ")[0].strip() if "## Answer" in findings else ""
    )
    if answer:
        console.print(answer, markup=False, soft_wrap=True)
    files = ", ".join(report.files)
    pairs(
        console,
        {
            "study": report.study,
            "written to": report.folder,
            "files": files,
            "cells": f"{report.cells}, {duration(report.seconds)}",
            "run": report.url or report.run_id,
        },
    )


def show_benchmark(console: Console, report: Mapping[str, Any]) -> None:
    """One line per case: both sides, their ratio, and whatever else the case measured as a plain
    number.
    """
    machine = report["hardware"]
    console.print(f"{report['benchmark']} on {machine}", markup=False, soft_wrap=True)
    for case in report["cases"]:
        console.print(
            f"{case['case']} against {case['peer']}" if case.get("peer") else str(case["case"]),
            style="bold",
            markup=False,
        )
        plain = {
            name: value
            for name, value in case.items()
            if name not in ("case", "peer") and not isinstance(value, list)
        }
        pairs(console, {f"  {name}": _figures(value) for name, value in plain.items()})


def _figures(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {_figures(item)}" for name, item in value.items() if not isinstance(item, list)
        )
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_comparison(console: Console, report: "CompareReport") -> None:
    from components.evaluation.comparison_tables import SCORE_NAMES, verdict

    console.print()
    console.print(_scores_table(report))
    console.print()
    for pair in report.pairs:
        if pair.significant:
            console.print(
                (
                    f"{pair.task}, {SCORE_NAMES[pair.score]}: {verdict(pair)} ({pair.first} "
                    f"against {pair.second})"
                ),
                markup=False,
            )
    count = sum(not pair.significant for pair in report.pairs)
    console.print(
        (
            f"{count} of {len(report.pairs)} differences between methods are not significant after "
            "correction."
        ),
        markup=False,
    )
    for line in report.missing:
        console.print(f"Missing: {line}", markup=False, soft_wrap=True)
    rows = {
        "cells": f"{report.cells} ({report.cells_run} run now)",
        "time": duration(report.seconds),
        "written to": report.output,
    }
    pairs(console, rows | ({"run": report.url} if report.url else {}))


def _scores_table(report: "CompareReport") -> Table:
    from components.evaluation.comparison_tables import describe_point

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("task", "method", "point"):
        table.add_column(column, no_wrap=True)
    for column in (
        "seeds",
        "accuracy %",
        "macro F1 %",
        "ECE %",
        "calibrated %",
        "own parameters",
        "tokens/s",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for row in report.rows:
        scores = [
            _mean_and_half(row, name) for name in ("accuracy", "macro_f1", "ece", "calibrated_ece")
        ]
        own = "-" if row.own_parameters is None else f"{row.own_parameters:,}"
        speed = f"{row.costs['tokens_per_second']:,.0f}" if row.costs else "-"
        table.add_row(
            row.task, row.method, describe_point(row), str(row.num_seeds), *scores, own, speed
        )
    return table


def _mean_and_half(row: Any, name: str) -> str:
    if name not in row.scores:
        return "-"
    found = row.scores[name]
    return f"{100 * found.mean:.1f}" + (
        "" if found.high is None else f" ± {100 * (found.high - found.mean):.1f}"
    )
