"""The script for a lent GPU runs from end to end on a CPU, and keeps what it has when a part fails.

Not covered: what a GPU answers. No figure of `--small` is one.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.research.benchmark.gpu import __main__ as script

ROOT = Path(__file__).resolve().parents[4]
PARTS = ["kernels", "models", "longformer", "decoder", "longest"]


@pytest.mark.slow
def test_the_whole_script_runs_small_on_a_cpu_and_every_comparison_agrees(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "pipelines.research.benchmark.gpu", "--small", "--json"]
    ended = subprocess.run(
        [*command, str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    report = json.loads(file.read_text(encoding="utf-8"))
    assert ended.returncode == 0, report["parts"]
    assert list(report["parts"]) == PARTS
    assert {"command", "hardware", "versions", "device", "small"} <= report.keys()
    assert report["parts"]["decoder"]["ours"]["planned_memory_bytes"] > 0
    assert report["parts"]["decoder"]["ratio to lora"] > 0
    assert not any(
        "error" in context for context in report["parts"]["longest"]["contexts"].values()
    )


def test_a_part_that_fails_leaves_its_error_and_is_no_good_report() -> None:
    def breaks() -> dict[str, Any]:
        raise ZeroDivisionError("on purpose")

    answer = script._carried_out(breaks, 10.0)
    assert "ZeroDivisionError: on purpose" in answer["failed"][-1]
    assert not script.good({"parts": {"one": answer}})
    assert script.good({"parts": {"one": {"a": {"agrees": True}}}})
    assert not script.good({"parts": {"one": {"a": {"agrees": False}}}})


def test_nothing_begins_after_its_time() -> None:
    assert script._carried_out(dict, 0.0) == {"skipped": "time was up"}


def test_a_peer_that_does_not_fit_is_an_answer() -> None:
    import torch

    from pipelines.research.benchmark.gpu.steps import attempted

    def does_not_fit() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB\nand more")

    assert attempted(does_not_fit) == {
        "error": "OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB"
    }
