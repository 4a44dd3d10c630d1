"""What monitoring is told of a champion."""

import os
import subprocess
import sys
import time
from urllib.request import urlopen

import numpy as np
import pytest

from components.evaluation import overconfidence
from components.jobs import INSIDE_A_JOB
from components.registry.history import HistoryEntry
from pipelines.retraining.monitoring import champion_since
from tests.faults import harness


def moved(time: str, before: int | None, after: int | None) -> HistoryEntry:
    return HistoryEntry(time, "promoted", 1, before, after, by="", reason="")


def test_a_champion_is_as_old_as_the_last_move_of_its_alias() -> None:
    first, kept = moved("1970-01-02T00:00:00Z", None, 1), moved("1970-01-03T00:00:00Z", 1, 1)
    second = moved("1970-01-04T00:00:00Z", 1, 2)
    assert champion_since([]) is None
    assert champion_since([first, kept]) == 86400.0
    assert champion_since([first, kept, second]) == 3 * 86400.0
    assert champion_since([first, moved("1970-01-05T00:00:00Z", 1, None)]) is None


@pytest.mark.parametrize("documents", [20, 2000])
def test_overconfidence_has_a_scale_that_does_not_depend_on_the_number_of_documents(
    documents: int,
) -> None:
    """Of calibrated answers its quotient is a standard normal deviate; of those that say more than
    they know it is not.
    """
    draw = np.random.default_rng(0)
    deviates = {"calibrated": [], "overconfident": []}  # type: dict[str, list[float]]
    for _ in range(300):
        confidence_N = draw.uniform(0.5, 1.0, documents)
        for name, truth_N in (("calibrated", confidence_N), ("overconfident", confidence_N - 0.2)):
            gap, error = overconfidence(confidence_N, draw.random(documents) < truth_N)
            deviates[name].append(gap / error)
    # Of 300 draws mean and spread are within 4 standard errors: 4/sqrt(300), 4/sqrt(600).
    assert abs(np.mean(deviates["calibrated"])) < 0.24
    assert abs(np.std(deviates["calibrated"]) - 1.0) < 0.17
    assert np.mean(deviates["overconfident"]) > 1.5


TOLD = """
import sys
from components.config import ExperimentConfig, validate
from pipelines.retraining.champion_quality import Quality
from pipelines.retraining.monitoring import tell_monitoring
from tests.pipelines.typed import EXPERIMENT

config = validate(ExperimentConfig, EXPERIMENT | {"registry": {"kind": "memory"}})
tell_monitoring(
    "weekly", "done", config, quality=Quality(1, 50, 0.5, None, 0.25, 0.05),
    tracking_uri="", ray_address=sys.argv[1], say=lambda line: sys.exit(line),
)
"""


@pytest.mark.slow
def test_a_job_that_has_ended_is_seen_by_whoever_looks_within_twenty_seconds() -> None:
    import ray

    with harness.local_cluster() as address:
        (node,) = ray.nodes()
        environment = os.environ | {INSIDE_A_JOB: "{}"}
        command = [sys.executable, "-c", TOLD, address]
        subprocess.run(command, env=environment, check=True, timeout=300)
        ended = time.time()
        place = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urlopen(place, timeout=15) as answer:
            lines = answer.read().decode().splitlines()
    ours = [line for line in lines if line.startswith("ray_prefixprop_")]
    told = {line.partition("{")[0]: float(line.split()[-1]) for line in ours}
    assert 0 < ended - told["ray_prefixprop_retraining_ended_timestamp_seconds"] < 60
    assert told["ray_prefixprop_champion_overconfidence"] == 0.25
    assert told["ray_prefixprop_champion_overconfidence_error"] == 0.05


def test_a_retraining_that_was_typed_tells_nobody() -> None:
    """And joins no cluster for it."""
    environment = {name: value for name, value in os.environ.items() if name != INSIDE_A_JOB}
    code = TOLD.replace("sys.argv[1]", "'nowhere'") + "\nassert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
