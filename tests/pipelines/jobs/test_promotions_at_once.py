"""Twenty processes that promote the same version at once: one of them moves the alias."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.registry import open_tracker
from tests.pipelines.test_promote import NAMES, register

PROCESSES = 20
PROGRAM = """
import json, sys
from pathlib import Path
from components.errors import ClusterError
from pipelines.promote import promote
name, uri, state = sys.argv[1:]
sys.stdin.readline()
try:
    report = promote(
        name,
        version=2,
        tracking_uri=uri,
        state_path=Path(state),
        force=True,
        reason="measured elsewhere",
    )
    print(json.dumps(["moved" if report.changed else "found it done", report.action]))
except ClusterError as error:
    print(json.dumps(["held by another", str(error)]))
"""


@pytest.mark.slow
def test_of_twenty_promotions_at_once_one_wins(
    mlflow_uri: str, plain_adapter: Path, tmp_path: Path
) -> None:
    name, tracker = next(NAMES), open_tracker("mlflow", mlflow_uri)
    register(tracker, name, plain_adapter, plain_adapter, config={})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name, mlflow_uri, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[3],
        )
        for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=300)[0] for process in processes]
    found = [json.loads(line) for line in ended if line.strip()]
    told = sorted(kind for kind, _ in found)
    assert told.count("moved") == 1, ended
    assert set(told) <= {"moved", "found it done", "held by another"}, ended
    assert [entry.action for entry in tracker.history(name)] == ["found", "forced"]
    assert tracker.resolve(f"models:/{name}@champion").version == 2
