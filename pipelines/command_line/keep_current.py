"""Commands that keep a registered adapter current."""

from pathlib import Path
from typing import Annotated

import typer

from components.errors import GateRefused
from pipelines.command_line import invocation
from pipelines.command_line.options import DryRun, Json
from pipelines.command_line.terminal import command


def retrain(
    spec: Annotated[Path, typer.Argument(help="The YAML file of a retraining.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Retrain where documents or settings have changed; the gate decides (exit 3: not
    promoted).
    """
    again = f"prefixprop retrain {spec}"
    with command(as_json=as_json, resume=again) as terminal:
        from components.config.retraining import load_retraining

        invocation.work_where_the_user_does()
        loaded = load_retraining(spec)
        config = invocation.load(loaded.experiment, loaded.overrides)
        invocation.check(config)
        if dry_run:
            line = f"Would retrain {config.model_name} by experiment {config.name}."
            return terminal.report(loaded, lambda console: console.print(line))
        found = invocation.addresses()
        from pipelines.command_line.show.keep_current import show_retraining
        from pipelines.retraining.retrain import retrain as run

        report = run(
            loaded,
            tracking_uri=found.tracking_uri or "",
            ray_address=found.ray_address,
            say=terminal.say,
        )
        terminal.report(report, lambda console: show_retraining(console, report))
        if report.status in ("held", "rejected"):
            raise GateRefused(f"{report.status}: {report.reason}")
