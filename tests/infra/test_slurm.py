"""The sbatch script in Slurm's own hands: a search runs in an allocation of this host, and what was
started ends with it.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.conftest import build_tiny_longformer
from tests.infra.slurm_host import slurm
from tests.ray_cluster import environment_on
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = "infra/slurm/prefixprop.sbatch"


def environment(folder: Path) -> dict[str, str]:
    """Of who calls sbatch: the programs of this environment, and nothing of another Ray."""
    names = environment_on("", folder)
    del names["RAY_ADDRESS"]
    path = os.pathsep.join((str(Path(sys.executable).parent), names["PATH"]))
    return names | {"PATH": path}


def submitted(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of a job that ran to its end."""
    log = folder / "job.log"
    done = subprocess.run(
        ["sbatch", "--wait", f"--output={log}", SCRIPT, *words],
        cwd=PROJECT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    return done.returncode, log.read_text() if log.exists() else done.stderr


def rays_of_jobs() -> list[psutil.Process]:
    """Processes whose temporary folder is that of a job of the script."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RAY_TMPDIR", "").startswith("/tmp/prefixprop-job-"):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    search: dict[str, Any] = {
        "searcher": "grid",
        "trial_scheduler": "none",
        "space": {"optimizer.learning_rate": {"choice": [1e-2, 1e-3]}},
    }
    values = make_experiment(tmp_path, build_tiny_longformer(), search=search)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def test_sbatch_runs_a_search_and_leaves_nothing_behind(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slurm() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code, log = submitted(toy, "search", str(toy / "toy.yaml"), "--resume", "if-any")
        assert code == 0, log[-5000:]
        assert "registered toy version 1 as champion" in log
        wrong, log = submitted(toy, "search", str(toy / "toy.yaml"), "--set", "no.such=1")
        assert wrong == 2 and "no.such" in log, log[-3000:]
    assert rays_of_jobs() == []
    assert list(Path("/tmp").glob("prefixprop-job-*")) == []
