"""A comparison on a toy from its file to tables, figures and a run: interrupted, resumed, with a
diverging method, and with one setting changed.

Every call is a process of its own. Not covered here: GPUs, several
nodes, workers that are killed (tests/components/tuning covers slots).
"""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import build_tiny_longformer
from tests.ray_cluster import environment_on
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_SECONDS = 400


def start(folder: Path, *sets: str) -> subprocess.Popen[str]:
    environment = environment_on((folder / "ray_address").read_text(), folder)
    options = [part for override in sets for part in ("--set", override)]
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "compare",
        "toy.yaml",
        "--json",
        "--output",
        "results",
        *options,
    ]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment | {"RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def run(folder: Path, *sets: str) -> tuple[int, dict[str, Any]]:
    process = start(folder, *sets)
    out, error = process.communicate(timeout=TIMEOUT_SECONDS)
    assert out, error[-4000:]
    return process.returncode, json.loads(out)


def cells(folder: Path) -> dict[str, dict[str, Any]]:
    """Content of every record.json by its path."""
    return {
        str(file): json.loads(file.read_text())
        for file in folder.glob("storage/toy/cells/*/*/*/record.json")
    }


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, ray_address: str
) -> tuple[Path, dict[str, Any], int, set[str]]:
    """The folder, the report of the second call, its exit code, and the cells that the interrupted
    first one left.
    """
    folder = tmp_path_factory.mktemp("compare")
    (folder / "ray_address").write_text(ray_address)
    values = make_experiment(folder, build_tiny_longformer())
    base = {name: values[name] for name in ("backbone", "head", "training", "zero")}
    points = [{"optimizer.learning_rate": 0.01}, {"optimizer.learning_rate": 0.001}]
    comparison = {
        "name": "toy",
        "base": base,
        "tasks": {"words": {"data": values["data"]}},
        "methods": {
            "propagation": {
                "adapter": {"method": "prefix_propagation", "prefix_length": 4, "dropout": 0.0},
                "points": points,
            },
            "head": {"adapter": {"method": "head_only"}, "points": points},
            "diverging": {
                "adapter": {"method": "lora"},
                "points": [{"optimizer.learning_rate": rate} for rate in (1e30, 1e31)],
            },
        },
        "search": {"points": 2, "seed": 1},
        "seeds": [1, 2],
        "resamples": 500,
        "concurrent_slots": 2,
        "cluster": values["cluster"],
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(comparison, sort_keys=False))
    first = start(folder)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while len(cells(folder)) < 2:
        assert first.poll() is None and time.monotonic() < deadline, first.communicate()[1][-4000:]
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    _, error = first.communicate(timeout=TIMEOUT_SECONDS)
    assert first.returncode == 130, error[-4000:]
    assert "Continue with: prefixprop compare toy.yaml" in error
    before = set(cells(folder))
    code, report = run(folder)
    return folder, report, code, before


def test_an_interrupted_comparison_goes_on_where_it_stopped(
    compared: tuple[Path, dict[str, Any], int, set[str]],
) -> None:
    folder, report, _, before = compared
    # Seed 1 at the chosen point is the search's training: six search trainings and one further seed
    # for two methods.
    assert len(cells(folder)) == 6 + 2
    assert 2 <= len(before) < 8 and before <= set(cells(folder))
    assert report["cells_run"] < report["cells"]


def test_a_method_that_diverges_is_shown_and_stops_no_other(
    compared: tuple[Path, dict[str, Any], int, set[str]],
) -> None:
    folder, report, code, _ = compared
    assert code == 1
    assert [(row["method"], row["num_seeds"]) for row in report["rows"]] == [
        ("propagation", 2),
        ("head", 2),
        ("diverging", 0),
    ]
    assert (
        len(report["missing"]) == 1
        and "diverging: no point gave an adapter: diverged" in report["missing"][0]
    )
    assert "diverged" in (folder / "results" / "comparison.md").read_text()


def test_the_chosen_point_is_the_best_on_validation_documents(
    compared: tuple[Path, dict[str, Any], int, set[str]],
) -> None:
    folder, report, _, _ = compared
    for row in report["rows"][:2]:
        found = [
            cell
            for cell in cells(folder).values()
            if cell["about"]["method"] == row["method"] and cell["about"]["seed"] == 1
        ]
        best = max(cell["progress"]["best_metrics"]["validation/accuracy"] for cell in found)
        chosen = next(cell for cell in found if cell["about"]["point"] == row["point"])
        assert chosen["progress"]["best_metrics"]["validation/accuracy"] == best


def test_the_table_is_made_of_the_stored_predictions(
    compared: tuple[Path, dict[str, Any], int, set[str]],
) -> None:
    folder, report, _, _ = compared
    for row in report["rows"][:2]:
        accuracies = []
        for file, cell in cells(folder).items():
            if cell["about"]["method"] == row["method"] and cell["final"] is not None:
                arrays = np.load(Path(file).parent / "predictions.npz")
                accuracies.append(
                    float((arrays["test_logits"].argmax(axis=1) == arrays["test_label_ids"]).mean())
                )
                assert cell["final"]["metrics"]["test/accuracy"] == accuracies[-1]
                assert len(arrays["test_lengths"]) == len(arrays["test_ids"]) == 9
                assert cell["peak_memory_bytes"] > 1e8
        assert len(accuracies) == 2
        assert row["scores"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    lines = list(csv.DictReader((folder / "results" / "comparison.csv").open()))
    assert [line["seeds"] for line in lines] == ["2", "2", "0"]


def test_every_output_is_in_the_folder_and_in_the_run(
    compared: tuple[Path, dict[str, Any], int, set[str]],
) -> None:
    folder, report, _, _ = compared
    names = {
        "comparison.md",
        "comparison.html",
        "comparison.tex",
        "comparison.csv",
        "pairs.csv",
        "intervals.png",
        "reliability.png",
    }
    assert names <= {file.name for file in (folder / "results").iterdir()}
    stored = {
        file.name
        for file in folder.glob(f"artifacts/toy/{report['run_id']}/artifacts/comparison/*")
    }
    assert names <= stored


def test_the_parameters_of_method_and_head_are_told_apart(
    compared: tuple[Path, dict[str, Any], int, set[str]],
) -> None:
    _, report, _, _ = compared
    propagation, head = report["rows"][:2]
    assert head["own_parameters"] == 0 < propagation["own_parameters"]
    assert head["head_parameters"] == propagation["head_parameters"] > 0


def test_the_same_command_trains_nothing_again_and_a_changed_setting_only_its_cells(
    compared: tuple[Path, dict[str, Any], int, set[str]],
) -> None:
    folder, report, _, _ = compared
    before = {file: Path(file).stat().st_mtime_ns for file in cells(folder)}
    _, again = run(folder)
    assert (
        again["cells_run"] == 0
        and again["rows"] == report["rows"]
        and again["pairs"] == report["pairs"]
    )
    _, changed = run(folder, "methods.propagation.adapter.prefix_length=2")
    after = {file: Path(file).stat().st_mtime_ns for file in cells(folder)}
    assert all(after[file] == written for file, written in before.items())
    assert {Path(file).parts[-3] for file in set(after) - set(before)} == {"propagation"}
    assert [row for row in changed["rows"] if row["method"] == "head"] == [
        row for row in report["rows"] if row["method"] == "head"
    ]
