"""Every run can be traced to code, versions, configuration and data."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.registry import code_fingerprint, code_version, environment, run_tags
from components.registry.environment import SOURCE_ROOT


def test_environment_is_json_and_names_the_versions():
    found = json.loads(json.dumps(environment()))
    assert {"torch", "mlflow", "transformers"} <= found["packages"].keys()
    assert found["code_version"] == code_version()


def test_tags_are_text_and_carry_what_a_run_came_from():
    tags = run_tags(config_sha256="abc", data_fingerprint="def", search_id="s1")
    assert {
        "config_sha256": "abc",
        "data_fingerprint": "def",
        "search_id": "s1",
    }.items() <= tags.items()
    assert tags["code_version"] == code_version()
    assert tags["code_fingerprint"] == code_fingerprint()
    assert all(isinstance(value, str) for value in tags.values())


def test_unknown_data_fingerprint_is_left_out():
    assert "data_fingerprint" not in run_tags(config_sha256="abc")


@pytest.mark.slow
def test_fingerprint_is_the_same_where_components_lies_alone(tmp_path: Path):
    # As Ray brings a package to a worker: each in a folder of its own.
    shutil.copytree(
        SOURCE_ROOT / "components",
        tmp_path / "components",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    command = "from components.registry import code_fingerprint; print(code_fingerprint())"
    alone = subprocess.run(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert alone.stdout.strip() == code_fingerprint()
