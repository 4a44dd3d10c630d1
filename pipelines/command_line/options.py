"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def path(text: str) -> Path:
    """A typed path: a shell leaves the `~` of `--output=~/x` as it is."""
    from components.settings import expand_path

    return Path(expand_path(text))


DAYS = {"w": 7.0, "d": 1.0, "h": 1 / 24, "m": 1 / 1440}


def days_of(age: str) -> float:
    """Days of a typed age: 30d, 12h. Raises ConfigError."""
    from components.errors import ConfigError

    number, unit = age[:-1], age[-1:]
    if unit not in DAYS or not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise ConfigError(
            f"--older-than: '{age}' is no age. Give a whole number and one of w, d, h, m: 30d."
        )
    return int(number) * DAYS[unit]


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
