"""Commands that use adapters: answers, metrics, and which version is the champion.

Each is a few lines: load, call the workflow, show its report. The workflow is imported after all
that was typed has been checked.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.command_line import invocation
from pipelines.command_line.options import Backbone, DryRun, Json, Model, Overrides, path
from pipelines.command_line.terminal import command, refuse


def predict(
    models: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            help="models:/<name>@champion, models:/<name>/<version>, or an adapter folder. "
            "Repeatable: several adapters of one backbone answer together.",
        ),
    ],
    input_: Annotated[
        Path,
        typer.Option(
            "--input",
            "-i",
            help="Documents: .jsonl, .csv (also .gz) or .parquet; questions: .json (also .gz).",
            parser=path,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Answers: .jsonl or .jsonl.gz.", parser=path)
    ],
    text_column: Annotated[str, typer.Option(help="Column of the document.")] = "text",
    id_column: Annotated[
        str, typer.Option(help="Column of the id; made from file and row where absent.")
    ] = "id",
    batch_size: Annotated[int, typer.Option(min=1, help="Documents at a time.")] = 8,
    backbone: Backbone = None,
    as_json: Json = False,
) -> None:
    """Label documents with registered adapters or adapter folders."""
    with command(as_json=as_json) as terminal:
        invocation.work_where_the_user_does()
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show.use import show_prediction, show_predictions
        from pipelines.predict import Asked, predict_several
        from pipelines.predict import predict as run

        asked = Asked(input_, output, text_column, id_column, batch_size, backbone=backbone)

        def say(count: int) -> None:
            terminal.say(f"{count} documents answered")

        if len(models) == 1:
            one = run(models[0], tracking_uri=tracking_uri, on_progress=say, **vars(asked))
            terminal.report(one, lambda console: show_prediction(console, one))
            return
        report = predict_several(models, asked, tracking_uri=tracking_uri, on_progress=say)
        terminal.report(report, lambda console: show_predictions(console, report))


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
            "--output",
            "-o",
            help="Folder for evaluation.json, reliability.png and by_length.png.",
            parser=path,
        ),
    ] = None,
    backbone: Backbone = None,
    as_json: Json = False,
) -> None:
    """Measure an adapter on one split, calibration included."""
    with command(as_json=as_json) as terminal:
        invocation.work_where_the_user_does()
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show.use import show_evaluation
        from pipelines.evaluate import evaluate as run

        report = run(
            model,
            tracking_uri=tracking_uri,
            split=split,
            experiment=experiment,
            overrides=overrides or (),
            output=output,
            backbone=backbone,
        )
        terminal.report(report, lambda console: show_evaluation(console, report))


def promote(
    model_name: Annotated[str, typer.Argument(help="Name of the registered adapter.")],
    version: Annotated[
        int | None, typer.Option(min=1, help="Version; without it the challenger.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Without the gate; needs --reason.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    overrides: Overrides = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Give a registered version the alias champion, where the gate lets it (exit 3: it does
    not).
    """
    with command(as_json=as_json) as terminal:
        tracking_uri = invocation.addresses().tracking_uri
        invocation.work_where_the_user_does()
        from pipelines.command_line.show.use import show_promotion
        from pipelines.promote import promote as run

        report = run(
            model_name,
            version=version,
            tracking_uri=tracking_uri,
            force=force,
            reason=reason,
            overrides=overrides or (),
            dry_run=dry_run,
        )
        terminal.report(report, lambda console: show_promotion(console, report))
        refuse(report)


def rollback(
    model_name: Annotated[str, typer.Argument(help="Name of the registered adapter.")],
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: Json = False,
) -> None:
    """Give the alias champion back to the version that had it before."""
    with command(as_json=as_json) as terminal:
        tracking_uri = invocation.addresses().tracking_uri
        invocation.work_where_the_user_does()
        from pipelines.command_line.show.use import show_promotion
        from pipelines.promote import rollback as run

        report = run(model_name, tracking_uri=tracking_uri, reason=reason)
        terminal.report(report, lambda console: show_promotion(console, report))


def history(
    model_name: Annotated[str, typer.Argument(help="Name of the registered adapter.")],
    as_json: Json = False,
) -> None:
    """Every decision and every move of the alias champion: when, who, why."""
    with command(as_json=as_json) as terminal:
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show.use import show_history
        from pipelines.promote import history as run

        report = run(model_name, tracking_uri=tracking_uri)
        terminal.report(report, lambda console: show_history(console, report))


def export(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder.", parser=path)],
    form: Annotated[
        Literal["adapter", "pyfunc", "peft", "transformers"],
        typer.Option(
            help="Plain safetensors and JSON; a complete MLflow model; or, compared with the "
            "adapter, what answers without this project: a decoder's prefix for PEFT, an "
            "encoder's for transformers."
        ),
    ] = "adapter",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Largest difference of logits from the adapter's that peft and transformers may "
            "have, in float32; where it is left out 1e-6, or twice what rounding does.",
        ),
    ] = None,
    backbone: Backbone = None,
    as_json: Json = False,
) -> None:
    """Write an adapter out of the registry into a folder."""
    with command(as_json=as_json) as terminal:
        tracking_uri = invocation.addresses().tracking_uri
        from pipelines.command_line.show.use import show_export
        from pipelines.export import export as run

        report = run(
            model,
            output=output,
            tracking_uri=tracking_uri,
            form=form,
            backbone=backbone,
            tolerance=tolerance,
        )
        terminal.report(report, lambda console: show_export(console, report))
