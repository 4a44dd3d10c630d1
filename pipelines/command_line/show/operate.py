"""The local cluster and its jobs as people read them on a terminal."""

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.command_line.printable import printable
from pipelines.command_line.show.figures import gib, mib, pairs

if TYPE_CHECKING:
    from pipelines.cluster_jobs import ClusterJob
    from pipelines.gc import GcReport
    from pipelines.local_cluster.access import Access
    from pipelines.local_cluster.doctor import Finding
    from pipelines.local_cluster.lifecycle import ClusterStatus
    from pipelines.local_cluster.state_file import LocalCluster
    from pipelines.submit import Submission


def show_submission(console: Console, submission: "Submission") -> None:
    pairs(
        console,
        {"job": submission.submission_id, "status": submission.status}
        | ({"message": submission.message} if submission.message else {}),
    )


def show_jobs(console: Console, jobs: "tuple[ClusterJob, ...]") -> None:
    table = Table("job", "status", "started (UTC)", "command", box=None, pad_edge=False)
    for job in jobs:
        table.add_row(job.submission_id, job.status, _time(job.started_at), job.command)
    console.print(table if jobs else "The cluster knows no job.")


def show_job(console: Console, job: "ClusterJob") -> None:
    rows = {"job": job.submission_id, "status": job.status, "command": job.command}
    rows |= {"started (UTC)": _time(job.started_at), "ended (UTC)": _time(job.ended_at)}
    rows |= {} if job.exit_code is None else {"exit code": str(job.exit_code)}
    rows |= {"code": job.code} if job.code else {}
    pairs(console, rows | ({"message": job.message} if job.message else {}))


def _time(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def show_cluster(console: Console, cluster: "LocalCluster", access: "Access") -> None:
    pairs(
        console,
        {"Ray dashboard": cluster.dashboard_url}
        | _ways_in(access)
        | {
            "submit": (
                f"ray job submit --address {cluster.jobs_address} --working-dir . -- python -m "
                "pipelines.cli search demo"
            ),
            "stop": "prefixprop down",
        },
    )


def _ways_in(access: "Access") -> dict[str, str]:
    token = {"  its token": f"cat {access.ray_token_file}"} if access.ray_token_file else {}
    return token | {
        "MLflow": f"{access.mlflow_link} (lets a browser in, for a day)",
        "by hand": f". {access.environment_file} (before ray and mlflow are typed in a shell)",
    }


def show_status(console: Console, status: "ClusterStatus") -> None:
    if status.cluster is None:
        console.print("No local cluster runs here. Start one with: prefixprop up", markup=False)
        return
    pairs(
        console,
        {
            "Ray": (
                f"{'answers' if status.ray else 'DOES NOT ANSWER'} at "
                f"{status.cluster.ray_address}, dashboard {status.cluster.dashboard_url}"
            ),
            "MLflow server": (
                f"{'answers' if status.mlflow else 'DOES NOT ANSWER'} at "
                f"{status.cluster.tracking_uri}"
            ),
            "processes": f"{status.processes}, {gib(status.memory_bytes)} resident",
        }
        | ({} if status.access is None else _ways_in(status.access)),
    )
    if not status.running:
        console.print("Start what is missing with: prefixprop up", markup=False)


def show_findings(console: Console, findings: "tuple[Finding, ...]") -> None:
    for finding in findings:
        style = {"ok": "green", "note": "yellow", "problem": "red"}[finding.level]
        console.print(f"[{style}]{finding.level:<8}[/{style}]{finding.what:<20}", end="")
        console.print(finding.found, markup=False, soft_wrap=True)
        if finding.fix:
            console.print(f"{'':<28}-> {finding.fix}", markup=False, soft_wrap=True)


def show_garbage(console: Console, report: "GcReport") -> None:
    table = Table("what", "size", "days", "why", box=None, pad_edge=False)
    table.add_column("where", overflow="fold")
    for each in report.garbage:
        where = Text(printable(each.where))
        size = f"{each.bytes / 1024**2:,.1f} MiB"
        table.add_row(each.kind, size, f"{each.days:.0f}", each.why, where)
    if report.garbage:
        console.print(table)
    for kept in report.kept:
        line = printable(f"left alone: {kept.where}: {kept.why}")
        console.print(line, markup=False, soft_wrap=True)
    done = "would be removed" if report.dry_run else "removed"
    line = f"{len(report.garbage)} things, {mib(report.bytes)}, {done}"
    console.print(line + (": leave --dry-run out" if report.dry_run else ""), markup=False)
