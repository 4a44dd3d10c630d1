"""Commands that train: one adapter, or a search for the best one.

Each is a few lines: load, call the workflow, show its report. The workflow is imported after all
that was typed has been checked.
"""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from components.errors import ConfigError
from pipelines.command_line import invocation
from pipelines.command_line.options import DryRun, Experiment, Json, Overrides, path
from pipelines.command_line.terminal import Terminal, command, refuse

if TYPE_CHECKING:
    from components.config import ExperimentConfig
    from pipelines.command_line.leaderboard import Leaderboard

FOLLOWS = " (follows the job, which still runs; end it with: prefixprop jobs stop ID)"
LIST, IF_ANY = "list", "if-any"
"""In the place of a search's id: show those that can be continued; continue one if there is one."""


def plan(
    experiment: Experiment,
    overrides: Overrides = None,
    lost_nodes_per_day: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1000.0,
            help="How often each node fails or is taken away (spot): for the table of sizes.",
        ),
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Parameters, memory, placement and feasibility of every point, and how many slots of how many
    GPUs are worth it once a trial was measured; starts nothing.
    """
    with command(as_json=as_json) as terminal:
        config = invocation.load(experiment, overrides)
        _plan(config, terminal, lost_nodes_per_day=lost_nodes_per_day)


def search(
    experiment: Experiment,
    overrides: Overrides = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the latest unfinished search with these settings."),
    ] = False,
    search_id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="With --resume: the search to continue; `list` to see them; `if-any`: the latest, "
            "or a new one.",
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Search, evaluate and register the best adapter; the gate decides about it (exit 3: not
    promoted).
    """
    again = _continued_by(experiment, search_id, overrides)
    with command(as_json=as_json, resume=again) as terminal:
        if search_id is not None and not resume:
            raise ConfigError(f"'{search_id}' is no option; to continue a search: --resume ID")
        config = invocation.load(experiment, overrides)
        if search_id == LIST and resume:
            return _resumable(config, terminal)
        invocation.check(config)
        if dry_run:
            return _plan(config, terminal)
        addresses = invocation.connect(config)
        from pipelines.command_line.show.training import show_search
        from pipelines.search import search as run

        with _leaderboard(config, terminal) as board:
            report = run(
                config,
                tracking_uri=addresses.tracking_uri or "",
                ray_address=addresses.ray_address,
                resume=_is_unfinished(config) if search_id == IF_ANY else search_id or resume,
                say=board.say,
                on_trial=board.update,
                command=invocation.resume_command("search", experiment, "", overrides),
            )
        terminal.report(report, lambda console: show_search(console, report))
        refuse(report.promotion)


def train(
    experiment: Experiment,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for checkpoint and adapter.", parser=path)
    ],
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the folder's checkpoint.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train one adapter without Ray: alone, or on several ranks under torchrun."""
    options = f"--output {shlex.quote(str(output))} --resume"
    again = invocation.resume_command(
        "train", experiment, options, overrides, program=invocation.launcher(os.environ)
    )
    with command(
        as_json=as_json, resume=again, quiet=os.environ.get("RANK", "0") != "0"
    ) as terminal:
        config = invocation.load(experiment, overrides, searches=False)
        invocation.check(config)
        if dry_run:
            return _plan(config, terminal)
        from pipelines.command_line.show.training import show_train
        from pipelines.train import train as run

        report = run(config, output=output, resume=resume, say=terminal.say)
        terminal.report(report, lambda console: show_train(console, report))


def submit(
    context: typer.Context,
    workflow: Annotated[
        Literal[
            "search",
            "train",
            "retrain",
            "compare",
            "study",
            "evaluate",
            "predict",
            "promote",
            "rollback",
            "bench",
        ],
        typer.Argument(help="The command to run on the cluster; its own arguments follow."),
    ],
    follow: Annotated[
        bool, typer.Option("--follow/--no-wait", help="Follow the job's log until it ends.")
    ] = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run a command on the Ray cluster as a job: the same program, by `ray job submit`. Again what
    still runs is followed, what failed is continued (see also: jobs).
    """
    arguments = [workflow, *context.args]
    given = invocation.parsed(context, arguments)
    again = shlex.join(["prefixprop", "submit", *arguments]) + FOLLOWS
    with command(as_json=as_json, resume=again) as terminal:
        config = invocation.load_for_submission(workflow, given)
        if dry_run and workflow in ("search", "train", "study"):
            return _plan(cast("ExperimentConfig", config), terminal)
        if dry_run:
            line = f"Would submit: {shlex.join(arguments)}"
            return terminal.report({"arguments": arguments}, lambda console: console.print(line))
        from pipelines.local_cluster.addresses import check_jobs, is_local

        addresses = invocation.addresses()
        here = Path.cwd() if is_local(addresses) else None
        if here is None:
            invocation.check_taken_along(given, config, Path.cwd())
        jobs_address = check_jobs(addresses.jobs_address, os.environ)
        from pipelines.command_line.show.operate import show_submission
        from pipelines.submit import submit as run

        submission = run(
            arguments,
            name=workflow if config is None else config.name,
            jobs_address=jobs_address,
            environ=os.environ,
            working_dir=Path.cwd(),
            home=here,
            follow=follow,
            write=terminal.write,
            say=terminal.say,
        )
        terminal.report(submission, lambda console: show_submission(console, submission))
        if follow and submission.status != "SUCCEEDED":
            raise SystemExit(submission.exit_code or 1)


def _leaderboard(config: "ExperimentConfig", terminal: Terminal) -> "Leaderboard":
    from components.planning import search_wanted
    from components.planning.plan import evaluations_at_most
    from pipelines.command_line.leaderboard import Leaderboard

    training, wanted = config.training, search_wanted(config)
    return Leaderboard(
        terminal.console,
        metric=training.metric,
        mode=training.mode,
        trials=wanted.trials,
        evaluations_per_trial=evaluations_at_most(wanted),
    )


def _continued_by(experiment: str, search_id: str | None, overrides: list[str] | None) -> str:
    chosen = f"--resume {shlex.quote(search_id)}" if search_id else "--resume"
    return invocation.resume_command("search", experiment, chosen, overrides)


def _is_unfinished(config: "ExperimentConfig") -> bool:
    """Whether a search of exactly these settings can be continued."""
    from components.config import config_sha256
    from components.tuning.search_folder import is_unfinished

    storage = Path(config.cluster.storage_path).resolve()
    return is_unfinished(storage, config.name, config_sha256(config))


def _resumable(config: "ExperimentConfig", terminal: Terminal) -> None:
    from components.config import config_sha256
    from components.tuning.search_folder import listed, unfinished

    found = unfinished(Path(config.cluster.storage_path).resolve(), config.name)
    line = (
        f"Of '{config.name}' {listed(found, config_sha256(config))}."
        if found
        else f"No search of '{config.name}' can be continued."
    )
    terminal.report(
        {"resumable": [each.search_id for each in reversed(found)]},
        lambda console: console.print(line, markup=False, soft_wrap=True),
    )


def _plan(
    config: "ExperimentConfig", terminal: Terminal, *, lost_nodes_per_day: float | None = None
) -> None:
    """Show the plan, without a `lost_nodes_per_day` that of a dry run: it simulates nothing."""
    from pipelines.capacity import with_capacity
    from pipelines.command_line.show.plans import show_plan
    from pipelines.plan import plan as run

    report = run(config, invocation.addresses(), os.environ)
    if lost_nodes_per_day is not None:
        report = with_capacity(config, report, lost_nodes_per_day=lost_nodes_per_day)
    terminal.report(report, lambda console: show_plan(console, report))
