"""Ray Train's cleaner does not outlive the run that it cleaned up after."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray_cluster import environment_on

pytestmark = pytest.mark.slow
RUN = """
import sys, time
import ray
from ray.train import RunConfig, ScalingConfig
from ray.util.state import list_actors
from components.jobs.ending_cleanup import EndingTrainer

def train(config):
    if config["fails"]:
        raise RuntimeError("as asked")

def cleaners(state):
    found = list_actors(filters=[("class_name", "=", "EndingCleaner"), ("state", "=", state)])
    return len(found)

ray.init(address=sys.argv[1])
for fails in (False, True):
    trainer = EndingTrainer(
        train,
        train_loop_config={"fails": fails},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path=sys.argv[2]),
    )
    try:
        trainer.fit()
    except Exception as error:
        assert fails and "as asked" in str(error), error
until = time.monotonic() + 120.0
while cleaners("ALIVE") and time.monotonic() < until:
    time.sleep(0.5)
print(cleaners("DEAD"), cleaners("ALIVE"))
"""


def test_no_cleaner_is_left_and_none_is_told_as_lost(ray_address: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, ray_address, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=environment_on(ray_address, tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["2", "0"], done.stdout
    assert "died" not in done.stderr
