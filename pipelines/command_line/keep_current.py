"""Commands that keep a registered adapter current."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from components.errors import ConfigError, GateRefused
from pipelines.command_line import invocation
from pipelines.command_line.options import DryRun, Json, path
from pipelines.command_line.terminal import Terminal, command

if TYPE_CHECKING:
    from pipelines.scheduling.schedules import ScheduleConfig


def retrain(
    spec: Annotated[Path, typer.Argument(help="The YAML file of a retraining.", parser=path)],
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
        from components.registry.history import REFUSED
        from pipelines.command_line.show.keep_current import show_retraining
        from pipelines.retraining.retrain import retrain as run

        report = run(
            loaded,
            config,
            tracking_uri=found.tracking_uri or "",
            ray_address=found.ray_address,
            say=terminal.say,
        )
        terminal.report(report, lambda console: show_retraining(console, report))
        if report.status in REFUSED:
            raise GateRefused(f"version {report.version} {report.status}: {report.reason}")


def schedule(
    action: Annotated[
        Literal["run", "list", "next", "pause", "resume", "trigger", "render"],
        typer.Argument(
            help="run: start what is due, until interrupted. list: what comes next, what runs. "
            "next: coming times. pause, resume, trigger: one schedule. render: a CronJob for "
            "Kubernetes."
        ),
    ],
    file: Annotated[Path, typer.Argument(help="The YAML file of schedules.", parser=path)],
    name: Annotated[str | None, typer.Argument(help="Which schedule; run takes all.")] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, max=1000, help="next: how many times of each.")
    ] = 5,
    as_json: Json = False,
) -> None:
    """Start commands when they are due, as jobs on the Ray cluster."""
    with command(as_json=as_json, resume=f"prefixprop schedule run {file}") as terminal:
        from pipelines.scheduling.schedules import load_schedules

        invocation.work_where_the_user_does()
        schedules = load_schedules(file)
        chosen = None if name is None else _named(schedules, name, file)
        if chosen is None and action in ("pause", "resume", "trigger", "render"):
            raise ConfigError(f"schedule {action} needs the name of a schedule in {file}.")
        if action == "next":
            return _next(schedules if chosen is None else (chosen,), count, terminal)
        from pipelines.command_line.show.keep_current import show_schedules
        from pipelines.scheduling import commands

        found = invocation.addresses()
        states = commands.states_of(found.tracking_uri)
        if action == "render" and chosen is not None:
            return _render(chosen, file, commands.is_paused(states, chosen), terminal)
        if action == "pause" and chosen is not None:
            commands.pause(states, chosen)
        elif action == "resume" and chosen is not None:
            commands.resume(states, chosen)
        elif action == "trigger" and chosen is not None:
            started = commands.trigger(states, chosen, found)
            terminal.say(f"{chosen.name}: job {started}")
        elif action == "run":
            commands.run(states, schedules, found, say=terminal.say)
        report = commands.overview(states, schedules)
        terminal.report(report, lambda console: show_schedules(console, report))


def _next(schedules: "tuple[ScheduleConfig, ...]", count: int, terminal: Terminal) -> None:
    from pipelines.command_line.show.keep_current import show_starts
    from pipelines.scheduling.commands import coming

    starts = coming(schedules, count=count)
    terminal.report(starts, lambda console: show_starts(console, starts))


def _render(schedule: "ScheduleConfig", file: Path, paused: bool, terminal: Terminal) -> None:
    from pipelines.scheduling.cron_job import cron_job, rendered

    manifest = cron_job(schedule, paused=paused)
    text = rendered(manifest, schedule, str(file)).rstrip("\n")
    terminal.report(manifest, lambda console: console.out(text, highlight=False))


def _named(schedules: "tuple[ScheduleConfig, ...]", name: str, file: Path) -> "ScheduleConfig":
    for each in schedules:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in schedules)
    raise ConfigError(f"{file} has no schedule '{name}'. It has: {known}.")
