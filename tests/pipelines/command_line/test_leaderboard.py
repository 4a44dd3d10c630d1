"""What a search shows while it runs, on a terminal and in a log."""

import io
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from rich.console import Console

from pipelines.command_line.leaderboard import Leaderboard, duration, ranked


@dataclass(frozen=True)
class Summary:
    name: str
    point: dict[str, Any]
    outcome: str = "running"
    reason: str = ""
    evaluations: int = 0
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    best_metrics: dict[str, float] = field(default_factory=dict)


def board(*, terminal: bool) -> tuple[Leaderboard, io.StringIO]:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=140, color_system=None)
    return Leaderboard(
        console, metric="accuracy", mode="max", trials=2, evaluations_per_trial=2
    ), text


def story(leaderboard: Leaderboard) -> None:
    first = Summary("trial-000", {"adapter.prefix_length": 4, "optimizer.learning_rate": 0.001})
    second = Summary("trial-001", {"adapter.prefix_length": 8, "optimizer.learning_rate": 0.01})
    for trial in (
        first,
        second,
        replace(
            first, evaluations=1, step=5, metrics={"accuracy": 0.5}, best_metrics={"accuracy": 0.5}
        ),
        replace(
            second,
            evaluations=1,
            step=5,
            metrics={"accuracy": 0.75},
            best_metrics={"accuracy": 0.75},
        ),
        replace(
            first,
            evaluations=1,
            step=5,
            metrics={"accuracy": 0.5},
            best_metrics={"accuracy": 0.5},
            outcome="stopped",
            reason="others were better",
        ),
    ):
        leaderboard.update(trial)


def test_a_log_gets_one_plain_line_per_event_and_no_control_characters() -> None:
    leaderboard, text = board(terminal=False)
    with leaderboard:
        story(leaderboard)
    lines = text.getvalue().splitlines()
    assert lines[:2] == [
        "trial-000 starts: prefix_length 4, learning_rate 0.001",
        "trial-001 starts: prefix_length 8, learning_rate 0.01",
    ]
    assert lines[2].startswith("trial-000 step 5: accuracy 0.5000 [0/2 trials, about ")
    assert lines[4].startswith("trial-000 stopped: others were better [1/2 trials, about ")
    assert len(lines) == 5
    assert "\x1b" not in text.getvalue()


def test_the_table_ranks_by_the_best_evaluation() -> None:
    leaderboard, text = board(terminal=True)
    story(leaderboard)
    leaderboard.console.print(leaderboard.render())
    shown = text.getvalue()
    assert shown.index("trial-001") < shown.index("trial-000")
    assert "1 of 2 trials ended" in shown


@pytest.mark.parametrize(
    ("mode", "order"), [("max", ["b", "a", "none"]), ("min", ["a", "b", "none"])]
)
def test_a_trial_without_an_evaluation_comes_last(mode: str, order: list[str]) -> None:
    trials = [
        {"name": name, "best_metrics": metrics}
        for name, metrics in (("none", {}), ("a", {"x": 0.2}), ("b", {"x": 0.9}))
    ]
    assert [trial["name"] for trial in ranked(trials, metric="x", mode=mode)] == order


def test_time_left_is_unknown_before_anything_was_measured() -> None:
    leaderboard, _ = board(terminal=False)
    assert leaderboard.time_left() == "time left unknown"


def test_durations_are_short() -> None:
    assert [duration(seconds) for seconds in (12.3, 600, 7260)] == ["12 s", "10 min", "2 h 01 min"]
