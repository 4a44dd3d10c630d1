"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def path(text: str) -> Path:
    """A typed path: a shell leaves the `~` of `--output=~/x` as it is."""
    from components.settings import expand_path

    return Path(expand_path(text))


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
        help="Override a setting, e.g. --set training.epochs=4. Repeatable.",
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
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Folder, hub id or installed model to take in place of the adapter's own backbone."
    ),
]
Model = Annotated[
    str,
    typer.Argument(help="models:/<name>@champion, models:/<name>/<version>, or an adapter folder."),
]
