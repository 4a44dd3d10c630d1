"""What ends a workflow that was begun: one line, a log that keeps the traceback, and the command
that goes on.
"""

import os
import signal
from pathlib import Path

import pytest

from components.config import ExperimentConfig, validate
from components.errors import ClusterError, WorkFailed
from components.jobs.summary import TrialSummary
from pipelines.command_line.terminal import command
from pipelines.failures import telling
from pipelines.interruption import one_interruption
from pipelines.running_search import TrialsLost
from pipelines.search import chosen

BASE = {
    "name": "toy",
    "backbone": {"name_or_path": "a/b", "family": "longformer"},
    "data": {"files": {"train": "x.jsonl"}},
}


class Log:
    """What a search's log knows of its trials."""

    def __init__(self, *outcomes: str) -> None:
        self.summaries = tuple(
            TrialSummary(f"trial-{number:03d}", {}, "", "", "", outcome=outcome, reason="why")
            for number, outcome in enumerate(outcomes)
        )

    def lost(self) -> tuple[TrialSummary, ...]:
        return tuple(each for each in self.summaries if each.outcome == "lost")

    def best(self) -> TrialSummary | None:
        return next((each for each in self.summaries if each.outcome == "completed"), None)


def test_a_search_with_lost_trials_chooses_nothing_unless_it_is_allowed() -> None:
    log = Log("completed", "lost", "completed")
    plain = validate(ExperimentConfig, BASE)
    with pytest.raises(
        TrialsLost, match=r"1 of 3 trials .*trial-001: why.*allow_lost_trials"
    ) as it:
        chosen(plain, log)  # type: ignore[arg-type]
    assert it.value.resumable
    allowing = validate(ExperimentConfig, BASE | {"search": {"allow_lost_trials": True}})
    trials = chosen(allowing, log)  # type: ignore[arg-type]
    assert trials.best.name == "trial-000" and [each.name for each in trials.lost] == ["trial-001"]


@pytest.mark.parametrize(("outcome", "resumable"), [("failed", True), ("diverged", False)])
def test_resuming_is_offered_where_it_can_help(outcome: str, resumable: bool) -> None:
    with pytest.raises(WorkFailed, match=f"gave an adapter. {outcome}: why") as it:
        chosen(validate(ExperimentConfig, BASE), Log(outcome))  # type: ignore[arg-type]
    assert it.value.resumable is resumable


def test_a_known_cause_is_one_line_with_the_command_and_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(SystemExit) as ended,
        command(as_json=False, resume="prefixprop search toy --resume"),
        telling(tmp_path / "error.log"),
    ):
        raise ClusterError("All trial slots\nare lost.")
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith("Failed: All trial slots are lost. (more: ")
    assert line.endswith("Continue with: prefixprop search toy --resume")
    assert "Traceback" in (tmp_path / "error.log").read_text()


def test_an_unknown_cause_keeps_its_traceback_and_names_the_command(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyError) as it,
        command(as_json=False, resume="prefixprop search toy --resume"),
        telling(tmp_path / "none" / "error.log"),
    ):
        raise KeyError("x")
    assert "prefixprop search toy --resume" in it.value.__notes__[0]
    assert "KeyError" in (tmp_path / "none" / "error.log").read_text()


def interrupted(closing: list[signal.Signals], closed: list[str]) -> None:
    """A workflow that is interrupted, and gets these signals while it closes its run."""
    with one_interruption(), one_interruption():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            for number in closing:
                os.kill(os.getpid(), number)
            closed.append("run")


def test_a_second_interruption_waits_until_runs_are_in_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGINT)
    closed: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted([signal.SIGTERM], closed)
    assert closed == ["run"] and "Ending already" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_third_interruption_gives_up() -> None:
    closed: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted([signal.SIGINT, signal.SIGINT], closed)
    assert closed == []


def test_the_log_keeps_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sesame-open-73")
    with pytest.raises(WorkFailed) as it, telling(tmp_path / "error.log"):
        raise OSError("http://me:sesame-open-73@host/ did not answer")
    assert "sesame-open-73" not in str(it.value)
    assert "sesame-open-73" not in (tmp_path / "error.log").read_text()
