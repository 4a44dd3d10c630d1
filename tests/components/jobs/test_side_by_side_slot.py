"""A slot on a Ray cluster that carries out several jobs at a time: their trainings interleave, each
ends with its own result, and a job that comes later joins those at work.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.config import ExperimentConfig, TrainConfig, validate
from components.jobs.events import Evaluated, Event, Trained
from components.jobs.job import Job, SlotSettings
from components.jobs.run_jobs import JobResult, run_jobs
from tests.ray_cluster import cluster_of_this_process
from tests.toy import make_experiment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
EPOCHS = 6


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with cluster_of_this_process():
        yield


def configs(folder: Path) -> list[TrainConfig]:
    """Of three trainings, the second of which diverges."""
    from tests.conftest import build_tiny_longformer

    values = make_experiment(
        folder,
        build_tiny_longformer(initializer_range=0.2),
        **{"head.pooling": "last", "adapter.placement": "one_way", "training.epochs": EPOCHS},
    )
    rates = (1e-2, 1e30, 1e-3)
    return [
        validate(ExperimentConfig, {**values, "optimizer": {"learning_rate": rate}}).train_config()
        for rate in rates
    ]


def carried_out(
    folder: Path, trainings: list[TrainConfig], capacity: int
) -> tuple[list[Event], list[JobResult]]:
    from components.backbones import load_tokenizer
    from components.config.cluster import ClusterConfig
    from components.jobs.same_versions import versions
    from components.jobs.slots import RaySlots, close_slots, start_slots, wait_until_placed
    from components.tasks import prepare

    folder.mkdir()
    cache = folder.parent / "cache"
    tokenizer = load_tokenizer(trainings[0].backbone)
    data = prepare(trainings[0].data, tokenizer, tokenizer_id="toy", cache_path=cache)
    cluster = ClusterConfig(placement_timeout_seconds=600, progress_timeout_seconds=600)
    settings = SlotSettings(trainings[0], cluster, cache, folder, "", versions(), capacity=capacity)
    slots = start_slots(settings, 1)
    wait_until_placed(slots)
    waiting = [
        Job(str(number), config, data.folder, folder / str(number))
        for number, config in enumerate(trainings)
    ]
    events: list[Event] = []
    results: list[JobResult] = []
    run_jobs(
        RaySlots(slots, timeout_seconds=600.0),
        lambda: waiting.pop(0) if waiting else None,
        on_result=results.append,
        on_event=events.append,
    )
    close_slots(slots)
    return events, sorted(results, key=lambda result: result.job.id)


def numbers(events: list[Event], name: str) -> list[float]:
    told = [each.report for each in events if isinstance(each, Evaluated) and each.job_id == name]
    return [report.metrics["validation/nll"] for report in told]


def test_jobs_of_one_slot_are_carried_out_at_the_same_time(cluster: Any, tmp_path: Path) -> None:
    trainings = configs(tmp_path / "toy")
    alone, one_by_one = carried_out(tmp_path / "alone", trainings, 1)
    together, results = carried_out(tmp_path / "together", trainings, 2)
    for of in (one_by_one, results):
        assert [each.outcome for each in of] == ["completed", "diverged", "completed"]
    for name in ("0", "2"):
        assert len(numbers(together, name)) == EPOCHS
        assert numbers(together, name) == pytest.approx(numbers(alone, name), rel=1e-5, abs=1e-5)
    ends = [each.job_id for each in together if isinstance(each, Trained)]
    assert ends[0] == "1"  # the second ended first, and the third took its place beside the first
    before = together.index(next(e for e in together if isinstance(e, Trained) and e.job_id == "0"))
    assert numbers(together[:before], "2")
    apart = alone.index(next(e for e in alone if isinstance(e, Trained) and e.job_id == "0"))
    assert not numbers(alone[:apart], "2")
