"""Commands that measure: methods against each other, and this program against its peers.

Each is a few lines: load, call the workflow, show its report. The workflow is imported after all
that was typed has been checked.
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.command_line import invocation
from pipelines.command_line.options import DryRun, Json, Overrides, path
from pipelines.command_line.terminal import Terminal, command

if TYPE_CHECKING:
    from components.config.comparison import ComparisonConfig


def compare(
    comparison: Annotated[
        str,
        typer.Argument(
            help=(
                "A checked-in comparison's name (pipelines/experiments) or the path of a YAML file."
            )
        ),
    ],
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for tables and figures; without it <storage>/<name>/results.",
            parser=path,
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Compare methods over tasks and seeds, each after a search of the same size.

    The same command goes on where it stopped.
    """
    options = f"--output {shlex.quote(str(output))}" if output else ""
    with command(
        as_json=as_json, resume=invocation.resume_command("compare", comparison, options, overrides)
    ) as terminal:
        config = invocation.load_comparison(comparison, overrides)
        from pipelines.command_line.show.measure import show_comparison

        if dry_run:
            return _plan_comparison(config, terminal)
        addresses = invocation.connect(config)
        from pipelines.comparison.compare import compare as run

        report = run(
            config,
            output=output or Path(config.cluster.storage_path) / config.name / "results",
            tracking_uri=addresses.tracking_uri or "",
            ray_address=addresses.ray_address,
            say=terminal.say,
        )
        terminal.report(report, lambda console: show_comparison(console, report))
        if report.missing:
            raise SystemExit(1)


def _plan_comparison(config: "ComparisonConfig", terminal: Terminal) -> None:
    from pipelines.command_line.show.plans import show_comparison_plan
    from pipelines.comparison.plan import plan_comparison

    plan = plan_comparison(config, terminal.say)
    terminal.report(plan, lambda console: show_comparison_plan(console, plan))


def study(
    name: Annotated[
        Literal["kernel", "length", "warm_start"],
        typer.Argument(help="Which question (pipelines/research/studies)."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the report and what it is made from; the same folder goes on.",
            parser=path,
        ),
    ],
    experiment: Annotated[
        str | None,
        typer.Argument(help="An experiment with a section `study`; without it study_<name>."),
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Answer a question with many small trainings: findings, figures and numbers.

    They go into a folder and into one tracking run. An interrupted study goes on by the same
    command.
    """
    chosen = experiment or f"study_{name}"
    again = invocation.resume_command(
        f"study {name}", chosen, f"--output {shlex.quote(str(output))}", overrides
    )
    with command(as_json=as_json, resume=again) as terminal:
        config = invocation.load(chosen, overrides, searches=False)
        invocation.check(config)
        tracking_uri = invocation.addresses().tracking_uri or ""
        from pipelines.command_line.show.measure import show_study
        from pipelines.research.studies.study import study as run

        shown = invocation.resume_command(f"study {name}", chosen, "--output FOLDER", overrides)
        report = run(
            name, config, output=output, tracking_uri=tracking_uri, command=shown, say=terminal.say
        )
        terminal.report(report, lambda console: show_study(console, report))


def bench(
    name: Annotated[
        Literal["step", "length", "attention", "memory", "search", "data", "startup", "quantised"],
        typer.Argument(help="Which question (pipelines/research/benchmark)."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of real documents; without it they are generated.", parser=path),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Name of a case; repeatable. Without it all run.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repeats, for a look.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Extrapolate nothing, however long it takes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure this program beside its peers on this machine, on the same work in the same run."""
    with command(as_json=as_json) as terminal:
        invocation.work_where_the_user_does()
        from pipelines.command_line.show.measure import show_benchmark
        from pipelines.research.benchmark import BenchmarkOptions, measure

        report = measure(
            name,
            BenchmarkOptions(data=data, quick=quick, full=full, only=tuple(only or ())),
            terminal.say,
        )
        terminal.report(report, lambda console: show_benchmark(console, report))
