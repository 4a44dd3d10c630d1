"""A search's state as people read it on a terminal."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pipelines.command_line.leaderboard import describe, duration
from pipelines.command_line.printable import printable
from pipelines.command_line.show.figures import pairs

if TYPE_CHECKING:
    from pipelines.status import SearchStatus

ROWS = 12
WORDS = frozenset({"trial", "settings", "outcome"})


def show_search_status(console: Console, status: "SearchStatus") -> None:
    pairs(console, _rows(status))
    if not status.trials:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("trial", "settings", status.metric, "evaluations", "step", "outcome"):
        table.add_column(column, justify="left" if column in WORDS else "right", no_wrap=True)
    for trial in status.trials[:ROWS]:
        table.add_row(
            trial.name,
            printable(describe(trial.point)),
            "-" if trial.best is None else f"{trial.best:.4f}",
            str(trial.evaluations),
            str(trial.step),
            trial.outcome,
        )
    console.print(table)
    if len(status.trials) > ROWS:
        console.print(f"... and {len(status.trials) - ROWS} more", markup=False)


def _rows(status: "SearchStatus") -> dict[str, str]:
    by_state = ", ".join(f"{count} {state}" for state, count in sorted(status.by_state.items()))
    rows = {
        "search": f"{status.search_id} of {status.experiment}",
        "state": _state(status),
        "trials": f"{by_state or 'none yet'}; {status.trials_planned} planned",
    }
    if status.run_url:
        rows["run"] = status.run_url
    if not status.runs:
        return rows
    if status.steps_per_second is not None:
        rows["speed"] = f"{status.steps_per_second:.3g} steps/s on ranks {status.ranks}"
    if status.leaving:
        rows["leaving"] = "; ".join(status.leaving)
    left = status.seconds_left
    told_left = "time left unknown" if left is None else f"about {duration(left)} left"
    rows["time"] = f"{duration(status.seconds_passed)} passed, {told_left}"
    signs = {
        "driver": status.age_of_driver,
        "a worker": status.age_of_workers,
        "a step": status.age_of_step,
    }
    told = [f"{name} {duration(age)} ago" for name, age in signs.items() if age is not None]
    return rows | {"last signs": ", ".join(told) or "none"}


def _state(status: "SearchStatus") -> str:
    if status.state == "done":
        return "done"
    if status.driver is not None:
        return f"{status.phase}; {status.driver}"
    return f"interrupted while {status.phase}: prefixprop search ... --resume goes on"
