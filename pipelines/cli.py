"""The command line. It parses and validates first; torch, ray, deepspeed and mlflow are imported by
the workflow, after that.

Addresses and secrets are read from the environment in command_line/ and local_cluster/, nowhere
else.
"""

import sys
import traceback

import typer

from components.secrets import without_secrets
from pipelines.command_line import keep_current, measure, operate, train_and_search, use

app = typer.Typer(
    name="prefixprop",
    help="Adapt long-context models with prefix-propagation: search, register, predict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = {
    "Train and search": (
        train_and_search.plan,
        train_and_search.search,
        train_and_search.train,
        train_and_search.submit,
    ),
    "Keep current": (keep_current.retrain, keep_current.schedule),
    "Use": (use.predict, use.evaluate, use.promote, use.rollback, use.history, use.export),
    "Operate": (operate.up, operate.status, operate.down, operate.jobs, operate.gc, operate.doctor),
    "Measure": (measure.compare, measure.study, measure.bench),
}
"""Group of the help page -> its commands, in the order in which they are shown."""

TAKES_ANOTHER = {"ignore_unknown_options": True, "allow_extra_args": True}
"""For `submit`: what follows is another command with its own arguments."""

for _group, _commands in COMMANDS.items():
    for _command in _commands:
        _settings = TAKES_ANOTHER if _command is train_and_search.submit else None
        app.command(rich_help_panel=_group, context_settings=_settings)(_command)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except Exception:  # noqa: BLE001  (what Python would print, without secrets)
        sys.stderr.write(without_secrets(traceback.format_exc()))
        sys.exit(1)


if __name__ == "__main__":
    main()
