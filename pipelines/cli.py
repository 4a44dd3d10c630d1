"""The command line. It parses and validates first; torch, ray, deepspeed and mlflow are imported by
the workflow, after that.

Addresses and secrets are read from the environment here and nowhere else. Every command is a few
lines: load, call the workflow, show its report.
"""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from pipelines.command_line import invocation
from pipelines.command_line.terminal import Terminal, command

if TYPE_CHECKING:
    from components.config import ExperimentConfig

app = typer.Typer(
    name="prefixprop",
    help="Adapt long-context models with prefix-propagation: search, register, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Experiment = Annotated[
    str,
    typer.Argument(
        help="A checked-in experiment's name (pipelines/experiments) or the path of a YAML file."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a setting, e.g. --set adapter.prefix_length=16. Repeatable.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="A machine-readable report on stdout, and nothing else there."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything and say what would happen; start nothing."),
]
Model = Annotated[
    str,
    typer.Argument(help="models:/<name>@champion, models:/<name>/<version>, or an adapter folder."),
]
StateFolder = Annotated[Path, typer.Option("--state", help="Folder of the local cluster's state.")]
STATE = Path(".prefixprop")


@app.command()
def search(
    experiment: Experiment,
    overrides: Overrides = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the latest unfinished search of this experiment."),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Search, evaluate the best adapter on test data and register it."""
    again = invocation.again("search", experiment, "--resume", overrides)
    with command(as_json=as_json, resume=again) as terminal:
        config = invocation.load(experiment, overrides)
        invocation.check(config)
        if dry_run:
            return _plan(config, terminal)
        addresses = invocation.connect(config)
        from components.planning import search_wanted
        from components.planning.plan import evaluations_at_most
        from pipelines.command_line.leaderboard import Leaderboard
        from pipelines.command_line.show import show_search
        from pipelines.search import search as run

        training, wanted = config.training, search_wanted(config)
        board = Leaderboard(
            terminal.console,
            metric=training.metric,
            mode=training.mode,
            trials=wanted.trials,
            evaluations_per_trial=evaluations_at_most(wanted),
        )
        with board:
            report = run(
                config,
                tracking_uri=addresses.tracking_uri or "",
                ray_address=addresses.ray_address,
                resume=resume,
                say=board.say,
                on_trial=board.update,
            )
        terminal.report(report, lambda console: show_search(console, report))


@app.command()
def train(
    experiment: Experiment,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for checkpoint and adapter.")
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
    again = invocation.again(
        "train", experiment, options, overrides, program=invocation.launcher(os.environ)
    )
    with command(
        as_json=as_json, resume=again, quiet=os.environ.get("RANK", "0") != "0"
    ) as terminal:
        config = invocation.load(experiment, overrides)
        invocation.check(config)
        if dry_run:
            return _plan(config, terminal)
        from pipelines.command_line.show import show_train
        from pipelines.train import train as run

        report = run(config, output=output, resume=resume, say=terminal.say)
        terminal.report(report, lambda console: show_train(console, report))


@app.command()
def plan(experiment: Experiment, overrides: Overrides = None, as_json: Json = False) -> None:
    """Parameters, memory, placement and feasibility of every point of the space, before anything
    starts.
    """
    with command(as_json=as_json) as terminal:
        _plan(invocation.load(experiment, overrides), terminal)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def submit(
    context: typer.Context,
    workflow: Annotated[
        Literal["search", "train", "compare", "study", "evaluate", "predict", "bench"],
        typer.Argument(help="The command to run on the cluster; its own arguments follow."),
    ],
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the job's log until it ends.")
    ] = True,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run a command on the Ray cluster as a job: the same program, by `ray job submit`."""
    arguments = [workflow, *context.args]
    given = invocation.parsed(app, context, arguments)
    again = shlex.join(["prefixprop", "submit", *arguments])
    with command(
        as_json=as_json,
        resume=f"{again} (follows the job, which still runs; end it with: ray job stop)",
    ) as terminal:
        config = invocation.load_for_submission(workflow, given)
        if dry_run and workflow in ("search", "train", "study"):
            return _plan(cast("ExperimentConfig", config), terminal)
        if dry_run:
            line = f"Would submit: {shlex.join(arguments)}"
            return terminal.report({"arguments": arguments}, lambda console: console.print(line))
        from pipelines.local_cluster.addresses import check_jobs

        addresses = invocation.addresses()
        jobs_address = check_jobs(addresses.jobs_address, os.environ)
        from pipelines.command_line.show import show_submission
        from pipelines.submit import submit as run

        submission = run(
            arguments,
            name=workflow if config is None else config.name,
            jobs_address=jobs_address,
            environ=os.environ,
            working_dir=Path.cwd(),
            wait=wait,
            write=terminal.write,
            say=terminal.say,
        )
        terminal.report(submission, lambda console: show_submission(console, submission))
        if wait and submission.status != "SUCCEEDED":
            raise SystemExit(submission.exit_code or 1)


@app.command()
def predict(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="models:/<name>@champion, models:/<name>/<version>, or an adapter folder.",
        ),
    ],
    input_: Annotated[
        Path,
        typer.Option(
            "--input",
            "-i",
            help="Documents: .jsonl, .csv (also .gz) or .parquet; questions: .json (also .gz).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Answers: .jsonl or .jsonl.gz.")],
    text_column: Annotated[str, typer.Option(help="Column of the document.")] = "text",
    id_column: Annotated[
        str, typer.Option(help="Column of the id; made from file and row where absent.")
    ] = "id",
    batch_size: Annotated[int, typer.Option(min=1, help="Documents at a time.")] = 8,
    as_json: Json = False,
) -> None:
    """Label documents with a registered adapter or an adapter folder."""
    with command(as_json=as_json) as terminal:
        invocation.work_where_the_user_does()
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show import show_prediction
        from pipelines.predict import predict as run

        report = run(
            model,
            input=input_,
            output=output,
            tracking_uri=tracking_uri,
            text_column=text_column,
            id_column=id_column,
            batch_size=batch_size,
            on_progress=lambda count: terminal.say(f"{count} documents answered"),
        )
        terminal.report(report, lambda console: show_prediction(console, report))


@app.command()
def evaluate(
    model: Model,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Which documents.")
    ] = "test",
    experiment: Annotated[
        str | None,
        typer.Option(
            help="Take this experiment's data instead of those the adapter was trained with."
        ),
    ] = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for evaluation.json, reliability.png and by_length.png."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure an adapter on one split, calibration included."""
    with command(as_json=as_json) as terminal:
        invocation.work_where_the_user_does()
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show import show_evaluation
        from pipelines.evaluate import evaluate as run

        report = run(
            model,
            tracking_uri=tracking_uri,
            split=split,
            experiment=experiment,
            overrides=overrides or (),
            output=output,
        )
        terminal.report(report, lambda console: show_evaluation(console, report))


@app.command()
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
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Compare methods over tasks and seeds, each after a search of the same size. The same command
    goes on where it stopped.
    """
    options = f"--output {shlex.quote(str(output))}" if output else ""
    with command(
        as_json=as_json, resume=invocation.again("compare", comparison, options, overrides)
    ) as terminal:
        config = invocation.load_comparison(comparison, overrides)
        from pipelines.command_line.show import show_comparison, show_comparison_plan

        if dry_run:
            from pipelines.comparison.plan import plan_comparison

            comparison_plan = plan_comparison(config, terminal.say)
            return terminal.report(
                comparison_plan, lambda console: show_comparison_plan(console, comparison_plan)
            )
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


@app.command()
def promote(
    model_name: Annotated[str, typer.Argument(help="Name of the registered adapter.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="Version; without it the challenger.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Give a registered version the alias champion."""
    with command(as_json=as_json) as terminal:
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show import show_promotion
        from pipelines.promote import promote as run

        report = run(model_name, version=version, tracking_uri=tracking_uri, dry_run=dry_run)
        terminal.report(report, lambda console: show_promotion(console, report))


@app.command()
def rollback(
    model_name: Annotated[str, typer.Argument(help="Name of the registered adapter.")],
    as_json: Json = False,
) -> None:
    """Give the alias champion back to the version that had it before."""
    with command(as_json=as_json) as terminal:
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show import show_promotion
        from pipelines.promote import rollback as run

        report = run(model_name, tracking_uri=tracking_uri)
        terminal.report(report, lambda console: show_promotion(console, report))


@app.command()
def export(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder.")],
    form: Annotated[
        Literal["adapter", "pyfunc"],
        typer.Option(help="Plain safetensors and JSON, or a complete MLflow model."),
    ] = "adapter",
    as_json: Json = False,
) -> None:
    """Write an adapter out of the registry into a folder."""
    with command(as_json=as_json) as terminal:
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show import show_export
        from pipelines.export import export as run

        report = run(model, output=output, tracking_uri=tracking_uri, form=form)
        terminal.report(report, lambda console: show_export(console, report))


@app.command()
def bench(
    name: Annotated[
        Literal["step", "length", "search", "data", "startup"],
        typer.Argument(help="Which question (pipelines/research/benchmark)."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of real documents; without it they are generated.")
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
        from pipelines.command_line.show import show_benchmark
        from pipelines.research.benchmark import BenchmarkOptions, measure

        report = measure(
            name,
            BenchmarkOptions(data=data, quick=quick, full=full, only=tuple(only or ())),
            terminal.say,
        )
        terminal.report(report, lambda console: show_benchmark(console, report))


@app.command()
def study(
    name: Annotated[
        Literal["kernel", "length"],
        typer.Argument(help="Which question (pipelines/research/studies)."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder for the report and what it is made from; the same folder goes on.",
        ),
    ],
    experiment: Annotated[
        str | None,
        typer.Argument(help="An experiment with a section `study`; without it study_<name>."),
    ] = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Answer a question with many small trainings: findings, figures and numbers, in a folder and
    in one tracking run. An interrupted study goes on by the same command.
    """
    chosen = experiment or f"study_{name}"
    again = invocation.again(
        f"study {name}", chosen, f"--output {shlex.quote(str(output))}", overrides
    )
    with command(as_json=as_json, resume=again) as terminal:
        config = invocation.load(chosen, overrides)
        invocation.check(config)
        tracking_uri = invocation.addresses().tracking_uri or ""
        from pipelines.command_line.show import show_study
        from pipelines.research.studies.study import study as run

        shown = invocation.again(f"study {name}", chosen, "--output FOLDER", overrides)
        report = run(
            name, config, output=output, tracking_uri=tracking_uri, command=shown, say=terminal.say
        )
        terminal.report(report, lambda console: show_study(console, report))


@app.command()
def up(state: StateFolder = STATE, as_json: Json = False) -> None:
    """Start a Ray head and an MLflow server on this machine; a second call changes nothing."""
    with command(as_json=as_json) as terminal:
        from pipelines.command_line.show import show_cluster
        from pipelines.local_cluster.lifecycle import up as run

        cluster = run(state, say=terminal.say)
        terminal.report(cluster, lambda console: show_cluster(console, cluster))


@app.command()
def down(state: StateFolder = STATE, as_json: Json = False) -> None:
    """End what `up` started, and nothing else. Runs and models stay."""
    with command(as_json=as_json) as terminal:
        from pipelines.local_cluster.lifecycle import down as run

        ended = run(state)
        line = f"Ended {ended} processes" if ended else "Nothing was running"
        terminal.report({"processes_ended": ended}, lambda console: console.print(line))


@app.command()
def status(state: StateFolder = STATE, as_json: Json = False) -> None:
    """What of the local cluster runs (exit code 1 where not all of it does)."""
    with command(as_json=as_json) as terminal:
        from pipelines.command_line.show import show_status
        from pipelines.local_cluster.lifecycle import status as run

        found = run(state)
        terminal.report(found, lambda console: show_status(console, found))
        if not found.running:
            raise SystemExit(1)


@app.command()
def doctor(as_json: Json = False) -> None:
    """What this machine lacks, and how to mend it (exit code 1 where something will fail)."""
    with command(as_json=as_json) as terminal:
        from pipelines.command_line.show import show_findings
        from pipelines.local_cluster.doctor import doctor as run

        findings = run()
        terminal.report(findings, lambda console: show_findings(console, findings))
        if any(finding.level == "problem" for finding in findings):
            raise SystemExit(1)


def _plan(config: "ExperimentConfig", terminal: Terminal) -> None:
    from pipelines.command_line.show import show_plan
    from pipelines.plan import plan as run

    report = run(config, invocation.addresses(), os.environ)
    terminal.report(report, lambda console: show_plan(console, report))


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
