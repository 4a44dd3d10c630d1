"""The kept results: one file per hardware, tables made from them and up to date."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.research.benchmark.results import (
    FOLDER,
    README,
    hardware_name,
    keep,
    tables,
    with_tables,
)


def report(benchmark: str = "other", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "benchmark": benchmark,
        "hardware": {"processor": "Some(R) CPU @ 2.0GHz", "cores": 2, "gpus": []},
        "versions": {"torch": "2", "transformers": "5"},
        "matrix_rate_gflops": 100.0,
        "cases": [{"case": "small", "peer": "them", "ratio": 2.0, "ours": {"seconds": 1.0}}],
    }
    return values | changes


def test_tables_in_the_readme_are_up_to_date() -> None:
    readme = README.read_text(encoding="utf-8")
    assert with_tables(readme, tables()) == readme, (
        "run: python -m pipelines.research.benchmark.results"
    )


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_a_result_lies_in_the_file_of_its_hardware(file: Path) -> None:
    for name, kept in json.loads(file.read_text(encoding="utf-8")).items():
        assert (kept["benchmark"], hardware_name(kept["hardware"])) == (name, file.stem)


def test_a_later_report_replaces_the_earlier_one_and_leaves_the_others(tmp_path: Path) -> None:
    keep(report("first"), tmp_path)
    keep(report("second"), tmp_path)
    file = keep(report("second", matrix_rate_gflops=50.0), tmp_path)
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert file.name == "some-cpu-2-0ghz-2-cores.json"
    assert {name: one["matrix_rate_gflops"] for name, one in kept.items()} == {
        "first": 100.0,
        "second": 50.0,
    }
    assert "| small | them | 2 |" in tables(tmp_path)


def test_a_readme_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the marks"):
        with_tables("# nothing\n", "table")
