"""The settings of the memory benchmark are experiments, and the plan has an answer to each."""

from pathlib import Path

import pytest

from pipelines.research.benchmark.columns import memory_columns
from pipelines.research.benchmark.memory import (
    BACKBONES,
    SETTINGS,
    Setting,
    estimated,
    experiment_values,
)


@pytest.mark.parametrize("setting", SETTINGS, ids=[setting.name for setting in SETTINGS])
def test_every_setting_is_an_experiment_that_the_plan_knows(
    setting: Setting, tmp_path: Path
) -> None:
    values = experiment_values(setting, tmp_path)
    found = estimated(values, BACKBONES[setting.backbone], ranks=setting.ranks, gpu=False)
    assert found["device"] > 0 and found["worst_instant"]


def test_settings_differ_in_all_that_the_plan_promises_for() -> None:
    assert len({setting.name for setting in SETTINGS}) == len(SETTINGS) >= 12
    assert {setting.stage for setting in SETTINGS} == {0, 1, 2, 3}
    assert {setting.ranks for setting in SETTINGS} == {1, 2}
    assert {setting.method["method"] for setting in SETTINGS} == {
        "prefix_propagation",
        "prefix_tuning",
        "lora",
        "full_fine_tuning",
        "head_only",
    }


def test_a_row_is_as_wide_as_its_head() -> None:
    case = {
        "case": "x",
        "estimate_bytes": 2**20,
        "measured_bytes": 2**20,
        "difference": 0.0,
        "estimate": {"worst_instant": "update"},
    }
    head, rows = memory_columns([case])
    assert {len(row) for row in rows} == {len(head)}
