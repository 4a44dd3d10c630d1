"""Three retrainings of one adapter, each a process of its own with its own Ray: the first one
trains and promotes, the second has nothing to do, the third trains on changed documents, starts
from the champion, and the gate decides.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.registry import open_tracker
from tests.conftest import build_tiny_longformer
from tests.ray_cluster import environment_on
from tests.toy import make_documents, make_experiment

ROOT = Path(__file__).resolve().parents[3]


def run(folder: Path, ray_address: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments, "--json"],
        cwd=folder,
        env=environment_on(ray_address, folder),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    report = json.loads(done.stdout) if done.stdout.strip() else {}
    return done.returncode, report, done.stderr


@pytest.mark.slow
def test_three_retrainings_in_a_row(
    tmp_path: Path, ray_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_documents(tmp_path / "all.jsonl", 96, seed=1)
    values = make_experiment(
        tmp_path,
        build_tiny_longformer(),
        name="toy",
        search={
            "searcher": "grid",
            "trial_scheduler": "none",
            "space": {"optimizer.learning_rate": {"choice": [0.01]}},
        },
    )
    values["data"]["files"] = {"train": str(tmp_path / "all.jsonl")}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(values))
    spec = {
        "name": "weekly",
        "experiment": "toy.yaml",
        "round_champion": {"learning_rate_factors": [1.0]},
        "drift": {"text": "fine"},
    }
    (tmp_path / "weekly.yaml").write_text(yaml.safe_dump(spec))

    code, report, error = run(tmp_path, ray_address, "retrain", "weekly.yaml")
    assert code == 0, error
    assert (report["status"], report["version"]) == ("promoted", 1)

    os.utime(tmp_path / "all.jsonl")  # content counts, not times
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    code, report, error = run(tmp_path, ray_address, "retrain", "weekly.yaml")
    assert (code, report["status"]) == (0, "nothing to do"), error
    imported = {line.rpartition("|")[2].strip() for line in error.splitlines()}
    assert "pipelines.retraining.retrain" in imported
    assert not imported & {"torch", "ray", "mlflow", "scipy", "transformers"}
    monkeypatch.delenv("PYTHONPROFILEIMPORTTIME")

    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    make_documents(tmp_path / "more.jsonl", 24, seed=2)
    corrected = json.loads(lines[5])
    corrected["text"] += " w1"
    changed, removed = [*lines[:5], json.dumps(corrected), *lines[6:90]], lines[90:]
    (tmp_path / "all.jsonl").write_text(
        "\n".join(changed) + "\n" + (tmp_path / "more.jsonl").read_text()
    )
    code, report, error = run(tmp_path, ray_address, "retrain", "weekly.yaml")
    assert code in (0, 3), error
    assert report["status"] in ("promoted", "held", "rejected") and report["version"] == 2
    decision = report["promotion"]["decision"]
    assert decision["number"] == 1 and decision["documents"] > 0
    assert decision["seeds"] == 3, "the registered training and two of other seeds"
    (started_from,) = tmp_path.glob("storage/toy/retraining/weekly/champion-1/adapter")
    assert started_from.is_dir()
    found = run(tmp_path, ray_address, "history", "toy")[1]
    assert [entry["action"] for entry in found["entries"]] == ["first", report["status"]]
    assert found["champion"] == (2 if report["status"] == "promoted" else 1)

    quality = report["quality"]
    assert (quality["version"], quality["documents"]) == (1, 25), "24 added, 1 corrected"
    tracker = open_tracker("mlflow", f"sqlite:///{tmp_path}/mlflow.db")
    curve = tracker.find_run("toy", {"kind": "champion_quality"})
    shown = tracker.find_run("toy", {"kind": "retraining", "verdict": report["status"]})
    assert curve is not None and shown is not None
    assert tracker.read_dict(shown, "decision.json")["verdict"] == decision["verdict"]

    kept = [file.read_text() for file in tmp_path.glob("storage/toy/retraining/**/*.jsonl")]
    texts = [json.loads(line)["text"] for line in removed]
    assert kept and not any(text in content for text in texts for content in kept)
    assert len(list(tmp_path.glob("cache/*/prepared.json"))) == 1, "tokens of the last ones alone"
