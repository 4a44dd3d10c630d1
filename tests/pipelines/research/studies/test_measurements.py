"""Cells survive, and are measured again only under other settings; methods take over what they have
of the experiment's settings.
"""

from pathlib import Path
from typing import Any

import pytest

from components.atomic_file import read_state, write_state
from components.config import ExperimentConfig, validate
from components.errors import ConfigError
from pipelines.research.studies.measurements import Measurements
from pipelines.research.studies.study_session import changed, with_method
from pipelines.research.studies.text import interval, markdown_table, signed

VALUES: dict[str, Any] = {
    "name": "toy",
    "backbone": {"name_or_path": "a/b", "family": "longformer"},
    "adapter": {"prefix_length": 3, "dropout": 0.25},
    "data": {"files": {"train": "x.jsonl"}},
}


def test_a_cell_is_measured_once_and_again_under_other_settings(tmp_path: Path) -> None:
    measured: list[int] = []

    def measure() -> dict[str, int]:
        measured.append(len(measured))
        return {"value": measured[-1]}

    def asked(settings: dict[str, Any]) -> int:
        value = Measurements(tmp_path, lambda line: None).get("one", settings, measure)["value"]
        assert isinstance(value, int)
        return value

    assert [asked({"seed": 1}), asked({"seed": 1}), asked({"seed": 2}), asked({"seed": 2})] == [
        0,
        0,
        1,
        1,
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_a_measurement_that_fails_leaves_no_cell(tmp_path: Path) -> None:
    def fails() -> dict[str, Any]:
        raise KeyboardInterrupt

    cells = Measurements(tmp_path, lambda line: None)
    with pytest.raises(KeyboardInterrupt):
        cells.get("one", {}, fails)
    assert cells.get("one", {}, lambda: {"value": 1}) == {"value": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        cells.get("two", {}, lambda: {"value": float("nan")})
    assert not (tmp_path / "two.json").exists()


def test_cells_remember_how_long_they_took(tmp_path: Path) -> None:
    Measurements(tmp_path, lambda line: None).get("one", {}, dict)
    write_state(tmp_path / "one.json", read_state(tmp_path / "one.json") | {"seconds": 12.5})
    again = Measurements(tmp_path, lambda line: None)
    again.get("one", {}, dict)
    assert (again.used, again.seconds) == ({"one": 12.5}, 12.5)


def test_a_method_takes_over_the_settings_that_it_has() -> None:
    config = validate(ExperimentConfig, VALUES)
    kernel = with_method(config, "kernel_prefix", seed=7, kernel="rbf")
    assert (
        kernel.adapter.method,
        kernel.adapter.prefix_length,
        kernel.adapter.dropout,
        kernel.adapter.kernel,
        kernel.seed,
    ) == (  # type: ignore[union-attr]
        "kernel_prefix",
        3,
        0.25,
        "rbf",
        7,
    )
    assert with_method(config, "head_only", seed=7).adapter.prefix_length == 0
    assert (
        with_method(config, "prefix_tuning", seed=7, kernel="rbf").adapter.method == "prefix_tuning"
    )


def test_changed_sets_dotted_paths_and_validates() -> None:
    config = validate(ExperimentConfig, VALUES).train_config()
    assert changed(config, training__epochs=3).training.epochs == 3
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        changed(config, training__epochs=0)


def test_text_marks_intervals_that_exclude_zero() -> None:
    assert interval({"value": 0.5, "low": 0.4, "high": 0.6}) == "0.500 (0.400 to 0.600)"
    assert signed({"value": 0.1, "low": 0.05, "high": 0.2}) == "+0.100 (+0.050 to +0.200) *"
    assert signed({"value": -0.1, "low": -0.2, "high": 0.01}) == "-0.100 (-0.200 to +0.010)"
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
