"""Hashes of the checked-in experiments are those that befcae5 gave: a search, a checkpoint and a
cache of that time are found again.
"""

import json
from pathlib import Path

import pytest

from components.config import ExperimentConfig, config_sha256, validate
from components.config.hashes import hashed_settings
from components.training.checkpoint import resume_key
from pipelines.experiments import load_comparison, load_experiment

RECORDED = json.loads(Path(__file__).with_name("hashes_of_befcae5.json").read_text())


@pytest.mark.parametrize("name", [name for name in RECORDED if "resume_key" in RECORDED[name]])
def test_an_experiment_s_hashes_have_not_moved(name: str) -> None:
    config, recorded = load_experiment(name), RECORDED[name]
    trial = config.train_config()
    assert config_sha256(config) == recorded["config_sha256"]
    assert config_sha256(trial) == recorded["train_sha256"]
    assert resume_key(trial, "f" * 64, world_size=2) == recorded["resume_key"]


@pytest.mark.parametrize("name", [name for name in RECORDED if "cell_sha256" in RECORDED[name]])
def test_a_comparison_s_hashes_have_not_moved(name: str) -> None:
    config, recorded = load_comparison(name), RECORDED[name]
    task, method, point = next(config.points())
    cell = config.train_config(task, method, point=point, seed=config.seeds[0], searching=False)
    assert config_sha256(config) == recorded["config_sha256"]
    assert config_sha256(cell) == recorded["cell_sha256"]


def test_the_key_of_a_cache_has_not_moved() -> None:
    from components.data.preparation import cache_key

    config = load_experiment("study_length")
    assert cache_key(config.data, "t" * 64) == RECORDED["study_length"]["data_key"]


def test_a_later_setting_counts_where_it_is_not_at_its_default() -> None:
    base = {
        "name": "toy",
        "backbone": {"name_or_path": "a/b", "family": "longformer"},
        "data": {"files": {"train": "x.jsonl"}},
    }
    told = base | {"data": {"files": {"train": "x.jsonl"}, "task": "classification"}}
    other = base | {"data": {"files": {"train": "x.jsonl"}, "task": "multiple_choice"}}
    plain, same, different = (validate(ExperimentConfig, each) for each in (base, told, other))
    assert config_sha256(plain) == config_sha256(same) != config_sha256(different)
    assert "task" not in hashed_settings(plain)["data"]


def test_what_may_differ_when_a_search_is_continued_is_in_no_hash() -> None:
    base = {
        "name": "toy",
        "backbone": {"name_or_path": "a/b", "family": "longformer"},
        "data": {"files": {"train": "x.jsonl"}},
    }
    plain = validate(ExperimentConfig, base)
    allowing = validate(ExperimentConfig, base | {"search": {"allow_lost_trials": True}})
    assert config_sha256(plain) == config_sha256(allowing)
    elsewhere = {"placement": "spread", "node_labels": {"zone": "a"}, "cache": "per_node"}
    placed = validate(ExperimentConfig, base | {"cluster": elsewhere})
    assert config_sha256(plain) == config_sha256(placed)
    assert config_sha256(plain.train_config()) == config_sha256(placed.train_config())
