"""What a retraining did, as people read it on a terminal."""

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pipelines.command_line.leaderboard import duration
from pipelines.command_line.show.figures import pairs
from pipelines.command_line.show.use import show_decision

if TYPE_CHECKING:
    from pipelines.reports import RetrainReport
    from pipelines.scheduling.commands import ScheduleReport, Start


def show_retraining(console: Console, report: "RetrainReport") -> None:
    if report.findings:
        table = Table("documents", "verdict", "numbers", box=None, pad_edge=False)
        for finding in report.findings:
            table.add_row(finding.check.replace("_", " "), finding.verdict, finding.line)
        console.print(table)
    if report.promotion is not None and report.promotion.decision is not None:
        show_decision(console, report.promotion.decision)
    rows = {"retraining": report.name, "outcome": report.status, "because": report.reason}
    if report.quality is not None:
        found = report.quality
        rows["champion on new documents"] = (
            f"version {found.version}: accuracy {found.accuracy:.3f} on {found.documents}"
        )
    if report.version is not None:
        rows["version"] = str(report.version)
    pairs(console, rows | {"time": duration(report.seconds)})


def show_schedules(console: Console, report: "tuple[ScheduleReport, ...]") -> None:
    table = Table(
        "schedule", "command", "cron", "next start (UTC)", "job", box=None, pad_edge=False
    )
    for each in report:
        starts = "paused" if each.next_start is None else _time(each.next_start)
        job = each.job or ("" if each.retry_at is None else f"again at {_time(each.retry_at)}")
        cron = f"{each.cron} ({each.timezone})"
        table.add_row(each.name, " ".join(each.command), cron, starts, job)
    console.print(table)


def show_starts(console: Console, starts: "tuple[Start, ...]") -> None:
    table = Table("schedule", "start", "UTC", box=None, pad_edge=False)
    for each in starts:
        table.add_row(each.name, each.local, each.utc)
    console.print(table)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
