"""`plan` on clusters that are not there: only once a rate was measured, and as JSON too."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.planning import Measured, remember, search_wanted
from pipelines.cli import app
from pipelines.command_line import invocation

DEMO = ["training.gradient_accumulation_steps=2", "training.micro_batch_size=1"]


def planned(cache: Path, *arguments: str) -> str:
    """What `plan demo` prints, with a cache of its own."""
    given = [each for value in settings(cache) for each in ("--set", value)]
    ran = CliRunner().invoke(app, ["plan", "demo", *given, *arguments])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def settings(cache: Path) -> list[str]:
    return [*DEMO, f"cluster.cache_path={cache}"]


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A cache that remembers a trial: 240 steps of 4 documents in 120 s, two workers a slot."""
    config = invocation.load("demo", settings(tmp_path))
    took = Measured("trial-000", 240, 120.0, None, 1, train_documents=960)
    remember(took, search_wanted(config).settings[0], config.cluster)
    return tmp_path


def capacity(cache: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(planned(cache, "--json", *arguments))["capacity"]
    return found


def test_nothing_is_claimed_before_a_trial_was_measured(tmp_path: Path) -> None:
    assert json.loads(planned(tmp_path, "--json"))["capacity"] is None
    assert "slots x" not in planned(tmp_path)


def test_slots_and_workers_for_clusters_of_growing_size(measured: Path) -> None:
    found = capacity(measured)
    layouts = {each["room"]: each for each in found["layouts"]}
    assert (layouts[1]["slots"], layouts[1]["workers_per_slot"]) == (1, 1)
    # Six trials; a step of 4 documents keeps 4 workers busy.
    assert (layouts[32]["slots"], layouts[32]["workers_per_slot"]) == (6, 4)
    assert max(layouts) == 32 and found["more_changes_nothing"]
    configured = found["configured"]
    assert (configured["slots"], configured["workers_per_slot"]) == (1, 2)
    # ASHA stops some of 6 trials of 120 s each, none before its first of four evaluations.
    assert 6 * 30.0 < configured["makespan_seconds"] < 6 * 120.0 + 30.0
    assert "0.5 s on 2 worker(s), as trial-000 did" in found["assumptions"]


def test_losses_are_reckoned_with_where_they_are_told(measured: Path) -> None:
    sure, spot = capacity(measured), capacity(measured, "--lost-nodes-per-day", "300")
    assert spot["configured"]["makespan_seconds"] > sure["configured"]["makespan_seconds"]
    assert "no worker is lost" in sure["assumptions"]
    assert "each node is lost 300 times a day" in spot["assumptions"]


def test_the_terminal_shows_them_in_one_table(measured: Path) -> None:
    lines = planned(measured).splitlines()
    start = next(number for number, line in enumerate(lines) if "slots x workers" in line)
    assert lines[start].split()[-3:] == ["worker", "hours", "training"]
    assert "as configured" in lines[start + 1] and "1 x 2" in lines[start + 1]
    assert "More workers change nothing: 6 trials of 4 documents a step." in planned(measured)
