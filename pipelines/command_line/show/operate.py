"""The local cluster and its jobs as people read them on a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console

from pipelines.command_line.show.figures import gib, pairs

if TYPE_CHECKING:
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


def show_cluster(console: Console, cluster: "LocalCluster") -> None:
    pairs(
        console,
        {
            "Ray dashboard": cluster.dashboard_url,
            "MLflow": f"{cluster.tracking_uri}/#/experiments?workflowType=machine_learning",
            "submit": (
                f"ray job submit --address {cluster.jobs_address} --working-dir . -- python -m "
                "pipelines.cli search demo"
            ),
            "stop": "prefixprop down",
        },
    )


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
            "MLflow": (
                f"{'answers' if status.mlflow else 'DOES NOT ANSWER'} at "
                f"{status.cluster.tracking_uri}"
            ),
            "processes": f"{status.processes}, {gib(status.memory_bytes)} resident",
        },
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
