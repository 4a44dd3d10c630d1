"""Commands that run the embedded cluster of this machine, and look after jobs of any cluster.

Each is a few lines: load, call the workflow, show its report. The workflow is imported after all
that was typed has been checked.
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from components.errors import ConfigError
from pipelines.command_line import invocation
from pipelines.command_line.options import Json, Overrides, days_of, path
from pipelines.command_line.terminal import command

StateFolder = Annotated[
    Path, typer.Option("--state", help="Folder of the local cluster's state.", parser=path)
]
STATE = Path(".prefixprop")


def up(state: StateFolder = STATE, as_json: Json = False) -> None:
    """Start a Ray head and an MLflow server on this machine; a second call changes nothing."""
    with command(as_json=as_json) as terminal:
        from pipelines.command_line.show.operate import show_cluster
        from pipelines.local_cluster.access import access_to
        from pipelines.local_cluster.lifecycle import up as run

        cluster = run(state, say=terminal.say)
        access = access_to(cluster, state)
        report = asdict(cluster) | {"access": access}
        terminal.report(report, lambda console: show_cluster(console, cluster, access))


def down(state: StateFolder = STATE, as_json: Json = False) -> None:
    """End what `up` started, and nothing else. Runs and models stay."""
    with command(as_json=as_json) as terminal:
        from pipelines.local_cluster.lifecycle import down as run

        ended = run(state)
        line = f"Ended {ended} processes" if ended else "Nothing was running"
        terminal.report({"processes_ended": ended}, lambda console: console.print(line))


def status(
    experiment: Annotated[
        str | None,
        typer.Argument(help="How this experiment's search stands; left out: the local cluster."),
    ] = None,
    search_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The search; left out: the latest.")
    ] = None,
    overrides: Overrides = None,
    state: StateFolder = STATE,
    as_json: Json = False,
) -> None:
    """How a search stands, also one that hangs or was left; without a name what of the local
    cluster runs (exit code 1: not all of it, or nobody is at work at the search).
    """
    with command(as_json=as_json) as terminal:
        if experiment is not None:
            config = invocation.load(experiment, overrides)
            from pipelines.command_line.show.search_status import show_search_status
            from pipelines.status import status as look

            search = look(config, search_id=search_id)
            terminal.report(search, lambda console: show_search_status(console, search))
            if not search.is_well:
                raise SystemExit(1)
            return
        from pipelines.command_line.show.operate import show_status
        from pipelines.local_cluster.lifecycle import status as run

        found = run(state)
        terminal.report(found, lambda console: show_status(console, found))
        if not found.running:
            raise SystemExit(1)


def jobs(
    action: Annotated[
        Literal["list", "status", "logs", "stop"],
        typer.Argument(help="list: all, the latest first; the others: one job."),
    ] = "list",
    submission_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The job's submission id.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="logs: until the job ends.")] = False,
    as_json: Json = False,
) -> None:
    """Jobs that were submitted to the Ray cluster: which there are, one's status and log, its
    end.
    """
    with command(as_json=as_json) as terminal:
        if action != "list" and submission_id is None:
            raise ConfigError(f"jobs {action} needs the id of a job; prefixprop jobs shows them.")
        from pipelines.local_cluster.addresses import check_jobs

        address = check_jobs(invocation.addresses().jobs_address, os.environ)
        from pipelines import cluster_jobs
        from pipelines.command_line.show.operate import show_job, show_jobs

        if submission_id is None or action == "list":
            found = cluster_jobs.jobs(address)
            return terminal.report(found, lambda console: show_jobs(console, found))
        if action == "logs":
            job = cluster_jobs.log(address, submission_id, follow=follow, write=terminal.write)
            return terminal.report(job, lambda console: None)
        ends = cluster_jobs.stop if action == "stop" else cluster_jobs.job
        job = ends(address, submission_id)
        terminal.report(job, lambda console: show_job(console, job))


def gc(
    storage: Annotated[
        Path | None,
        typer.Option(help="Folder of searches (cluster.storage_path).", parser=path),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of tokens and backbones (cluster.cache_path).", parser=path),
    ] = None,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Only what was not used for so long: 30d, 12h, 2w.")
    ] = "30d",
    keep_best: Annotated[
        int,
        typer.Option(
            min=0, help="So many trainings of each search and method keep their checkpoint."
        ),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go, and remove nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove old checkpoints, caches and what Ray left; everything that goes can be made again."""
    with command(as_json=as_json) as terminal:
        days = days_of(older_than)
        from components.config.cluster import ClusterConfig
        from pipelines.command_line.show.operate import show_garbage
        from pipelines.gc import gc as run
        from pipelines.local_cluster.addresses import lasting_folder

        settings = ClusterConfig()
        report = run(
            *(
                lasting_folder(given or Path(default), os.environ)
                for given, default in (
                    (storage, settings.storage_path),
                    (cache, settings.cache_path),
                )
            ),
            older_than_days=days,
            keep_best=keep_best,
            tracking_uri=invocation.addresses().tracking_uri,
            dry_run=dry_run,
        )
        terminal.report(report, lambda console: show_garbage(console, report))


def doctor(as_json: Json = False) -> None:
    """What this machine lacks, and how to fix it (exit code 1 where something will fail)."""
    with command(as_json=as_json) as terminal:
        from pipelines.command_line.show.operate import show_findings
        from pipelines.local_cluster.doctor import doctor as run

        findings = run()
        terminal.report(findings, lambda console: show_findings(console, findings))
        if any(finding.level == "problem" for finding in findings):
            raise SystemExit(1)
