"""How a search stands, from its folder alone."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.atomic_file import write_state
from components.config import ExperimentConfig, validate
from components.errors import ArtifactError, ConfigError
from components.tuning.search_folder import SearchFolder, exclusive, new_search
from pipelines.cli import app
from pipelines.live_status import STATUS_FILE
from pipelines.status import SearchStatus, status
from tests.pipelines.typed import EXPERIMENT

SLOT = {"ranks": 2, "step": 40, "steps_per_second": 4.0, "leaving": ""}


@pytest.fixture
def config(tmp_path: Path) -> ExperimentConfig:
    cluster = {"cluster": {"storage_path": str(tmp_path / "storage")}}
    return validate(ExperimentConfig, EXPERIMENT | cluster)


@pytest.fixture
def search(config: ExperimentConfig) -> SearchFolder:
    return new_search(Path(config.cluster.storage_path), config.name, "x")


def trial(name: str, outcome: str, *, best: float | None, evaluations: int = 1) -> dict[str, Any]:
    return {
        "name": name,
        "job": f"job-{name}",
        "point": {},
        "outcome": outcome,
        "evaluations": evaluations,
        "step": 10,
        "best": best,
        "reason": "",
    }


def told(search: SearchFolder, *, seconds_ago: float = 2.0) -> None:
    """What a driver that has passed 100 s leaves word of."""
    written = time.time() - seconds_ago
    content = {
        "format": 1,
        "phase": "trials",
        "began_at": written - 100.0,
        "written_at": written,
        "metric": "validation/accuracy",
        "trials_planned": 4,
        "evaluations_per_trial": 2,
        "run_url": "http://run",
        "trials": [
            trial("a", "completed", best=0.5),
            trial("b", "diverged", best=None),
            trial("c", "running", best=0.75),
        ],
        "slots": [
            SLOT | {"job": "job-c", "last_step_at": written - 1, "last_word_at": written},
            SLOT
            | {"job": "", "steps_per_second": None, "last_step_at": None, "last_word_at": None},
        ],
    }
    write_state(Path(search.path) / STATUS_FILE, content)


def test_a_running_search_tells_how_far_how_fast_and_how_long_ago(
    config: ExperimentConfig, search: SearchFolder
) -> None:
    told(search)
    with exclusive(search):
        found = status(config)
    assert found.runs and found.is_well
    assert found.driver is not None and f"process {os.getpid()}" in found.driver
    assert [each.name for each in found.trials] == ["c", "a", "b"], "best first"
    assert found.by_state == {"completed": 1, "diverged": 1, "running": 1}
    assert (found.trials[0].step, found.steps_per_second, found.ranks) == (40, 4.0, (2, 2))
    # Two trials and a half took 100 s; a half and one are left.
    assert found.seconds_left == pytest.approx(100.0 * 1.5 / 2.5)
    assert found.age_of_driver == pytest.approx(2.0, abs=1.0)
    assert found.age_of_step == pytest.approx(3.0, abs=1.0)


def test_a_search_whose_driver_is_gone_is_not_well(
    config: ExperimentConfig, search: SearchFolder
) -> None:
    told(search, seconds_ago=3600.0)
    found = status(config)
    assert (found.state, found.driver, found.runs, found.is_well) == ("running", None, False, False)
    search.ended("done").save()
    assert status(config).is_well


def test_the_latest_is_shown_and_any_other_by_its_id(
    config: ExperimentConfig, search: SearchFolder
) -> None:
    later = new_search(Path(config.cluster.storage_path), config.name, "x")
    assert status(config).search_id == later.search_id
    assert status(config, search_id=search.search_id).search_id == search.search_id
    with pytest.raises(ConfigError, match="No search other of") as caught:
        status(config, search_id="other")
    assert later.search_id in str(caught.value) and "storage_path" in str(caught.value)


def test_one_that_left_no_word_is_shown_by_its_folder(
    config: ExperimentConfig, search: SearchFolder
) -> None:
    found: SearchStatus = status(config)
    assert found.trials == () and found.age_of_driver is None and found.seconds_left is None


def test_a_damaged_word_is_said(config: ExperimentConfig, search: SearchFolder) -> None:
    told(search)
    file = Path(search.path) / STATUS_FILE
    file.write_text(file.read_text().replace("trials_planned", "trials_plamned"))
    with pytest.raises(ArtifactError, match="cannot be read"):
        status(config)


def test_the_command_shows_it_and_its_exit_code_says_whether_it_is_well(
    config: ExperimentConfig,
    search: SearchFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import yaml

    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    monkeypatch.chdir(tmp_path)
    told(search)
    with exclusive(search):
        shown = CliRunner().invoke(app, ["status", "toy.yaml"])
    assert shown.exit_code == 0, shown.output
    assert "1 completed, 1 diverged, 1 running; 4 planned" in shown.output
    assert "4 steps/s" in shown.output and "a step 3 s ago" in shown.output
    left = CliRunner().invoke(app, ["status", "toy.yaml"])
    assert left.exit_code == 1 and "--resume goes on" in left.output


def test_asking_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, pipelines.status, pipelines.command_line.show.search_status\n"
        "assert not {'torch', 'ray', 'transformers', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
