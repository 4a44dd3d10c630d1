"""The live leaderboard of a search: a table that stays in place on a terminal, one line per event
elsewhere (a job's log, a pipe).
"""

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.time_left import seconds_left

if TYPE_CHECKING:
    from typing import Self

ROWS = 12


class Trial(Protocol):
    """What the leaderboard reads of a trial's summary."""

    @property
    def name(self) -> str: ...
    @property
    def point(self) -> Mapping[str, Any]: ...
    @property
    def outcome(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def evaluations(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def best_metrics(self) -> Mapping[str, float]: ...


class Leaderboard:
    """Fed with every change of a trial; a context manager, so that the terminal is left in
    order.
    """

    def __init__(
        self, console: Console, *, metric: str, mode: str, trials: int, evaluations_per_trial: int
    ) -> None:
        self.console, self.metric, self.mode = console, metric, mode
        self.total, self.evaluations = trials, evaluations_per_trial
        self.trials: dict[str, Trial] = {}
        self._started = time.monotonic()
        self._live = (
            Live(console=console, refresh_per_second=2, get_renderable=self.render)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> "Self":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """One line about a stage of the search."""
        self.console.print(line, markup=False, soft_wrap=True)

    def update(self, trial: Trial) -> None:
        """A trial started, reported or ended."""
        before = self.trials.get(trial.name)
        self.trials[trial.name] = trial
        if not self.console.is_terminal and (
            before is None
            or (before.outcome, before.evaluations) != (trial.outcome, trial.evaluations)
        ):
            self.say(self._event(trial, before))

    def _event(self, trial: Trial, before: Trial | None) -> str:
        if before is None:
            return f"{trial.name} starts: {describe(trial.point)}"
        progress = f"[{self.ended}/{self.total} trials, {self.time_left()}]"
        value = trial.metrics.get(self.metric)
        if trial.evaluations != before.evaluations and value is not None:
            return f"{trial.name} step {trial.step}: {self.metric} {value:.4f} {progress}" + (
                "" if trial.outcome == "running" else f" {trial.outcome}"
            )
        return f"{trial.name} {trial.outcome}: {trial.reason} {progress}"

    @property
    def ended(self) -> int:
        return sum(trial.outcome != "running" for trial in self.trials.values())

    def time_left(self) -> str:
        """In words; see time_left.py."""
        left = seconds_left(
            self.trials.values(),
            planned=self.total,
            evaluations=self.evaluations,
            passed=time.monotonic() - self._started,
        )
        return "time left unknown" if left is None else f"about {duration(left)} left"

    def render(self) -> Group:
        """Table of the best trials and a line of progress."""
        rows = ranked(
            [as_row(trial) for trial in self.trials.values()], metric=self.metric, mode=self.mode
        )
        line = (
            f"{self.ended} of {self.total} trials ended, "
            f"{duration(time.monotonic() - self._started)} passed, {self.time_left()}"
        )
        return Group(trial_table(rows[:ROWS], metric=self.metric), Text(line))


def as_row(trial: Trial) -> dict[str, Any]:
    """A trial's summary as the mapping that a report holds."""
    return {
        name: getattr(trial, name)
        for name in ("name", "point", "outcome", "evaluations", "step", "best_metrics", "reason")
    }


def ranked(
    trials: Iterable[Mapping[str, Any]], *, metric: str, mode: str
) -> list[Mapping[str, Any]]:
    """Best first; trials without a single evaluation come last."""
    sign = -1.0 if mode == "max" else 1.0
    return sorted(
        trials, key=lambda trial: sign * trial["best_metrics"].get(metric, sign * float("inf"))
    )


def trial_table(trials: list[Mapping[str, Any]], *, metric: str) -> Table:
    """Trials in the order given, best first."""
    paths = list(dict.fromkeys(path for trial in trials for path in trial["point"]))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (
        "trial",
        *(path.rpartition(".")[2] for path in paths),
        metric,
        "evaluations",
        "step",
        "outcome",
    ):
        table.add_column(
            column, justify="left" if column in {"trial", "outcome"} else "right", no_wrap=True
        )
    for trial in trials:
        best = trial["best_metrics"].get(metric)
        point = [number(trial["point"].get(path)) for path in paths]
        table.add_row(
            trial["name"],
            *point,
            "-" if best is None else f"{best:.4f}",
            str(trial["evaluations"]),
            str(trial["step"]),
            trial["outcome"],
        )
    return table


def describe(point: Mapping[str, Any]) -> str:
    """A point of the space in one short line."""
    return ", ".join(f"{path.rpartition('.')[2]} {number(value)}" for path, value in point.items())


def number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
