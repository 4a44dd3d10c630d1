"""A folder with an experiment and a comparison, and commands typed in it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.cli import app

EXPERIMENT: dict[str, Any] = {
    "name": "toy",
    "backbone": {
        "source": "installed",
        "name_or_path": "all-MiniLM-L6-v2",
        "family": "longformer",
        "lengthen_to": 512,
        "attention_window": 128,
    },
    "data": {"files": {"train": "documents.jsonl"}, "max_tokens": 256},
    "search": {"space": {"adapter.prefix_length": {"choice": [4, 8]}}},
}


COMPARISON: dict[str, Any] = {
    "name": "toys",
    "base": {"backbone": EXPERIMENT["backbone"]},
    "tasks": {"fruit": {"data": {"files": {"train": "documents.jsonl"}, "max_tokens": 256}}},
    "methods": {
        "propagation": {
            "adapter": {"method": "prefix_propagation"},
            "points": [{"adapter.prefix_length": 4}],
        },
        "head": {"adapter": {"method": "head_only"}, "points": [{"optimizer.learning_rate": 0.01}]},
    },
    "search": {"points": 1},
    "seeds": [1, 2],
}


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An experiment file in an empty working folder, with no addresses in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "MLFLOW_TRACKING_URI",
        "PREFIXPROP_HOME",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    (tmp_path / "toys.yaml").write_text(yaml.safe_dump(COMPARISON, sort_keys=False))
    (tmp_path / "documents.jsonl").write_text("")
    return "toy.yaml"


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr
