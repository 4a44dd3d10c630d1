"""A model larger than a rank's allowance trains at stage 3 and cannot be loaded at stage 0, under
prlimit; and ranks share the pages of weights that are computed with as they are stored.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.components.training.ranks import ROOT

pytestmark = pytest.mark.slow
MODEL_MIB = 1328
"""348M parameters in float32."""
DOCUMENTS = (
    *("--steps", "1", "--tokens", "128", "--documents", "2"),
    *("--set", "training.gradient_checkpointing=true"),
)
"""Two documents of 128 tokens on each rank, in one step of two trials."""
ALLOWED_MIB = int(0.6 * MODEL_MIB) + 400


def measured(folder: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.memory.large_model", str(folder)]
    done = subprocess.run(
        [*command, "--steps", "2", *options],
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("large")


def test_stage_3_trains_within_an_allowance_that_does_not_hold_the_model(folder: Path) -> None:
    limit = ("--limit-mib", str(ALLOWED_MIB))
    assert "Cannot allocate memory" in measured(folder, "--set", "zero.stage=0", *limit)["failed"]
    found = measured(folder, "--set", "zero.stage=3", *DOCUMENTS, *limit)
    assert abs(found["model MiB"] - MODEL_MIB) < 10
    for rank in found["ranks"]:
        assert max(rank["anonymous MiB"].values()) <= ALLOWED_MIB


def test_stage_0_shares_the_pages_of_the_file_and_a_trial_writes_none(folder: Path) -> None:
    for rank in measured(folder, "--set", "zero.stage=0")["ranks"]:
        assert rank["weights MiB"]["Shared"] == rank["weights MiB"]["in tensors"]
        assert rank["weights MiB"]["Private"] == rank["weights MiB"]["Anonymous"] == 0
