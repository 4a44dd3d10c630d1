"""What workers of a slot get of a cluster's GPUs. Ray takes num_gpus=4 on a machine without any, so
that placement and environment are real, and only the cards are not.
"""

import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from components.config.cluster import ClusterConfig

pytestmark = pytest.mark.slow
Found = dict[str, list[dict[str, str]]]


CLUSTERS = {
    "none": ClusterConfig(num_workers=1),
    "one each": ClusterConfig(num_workers=2, gpus_per_worker=1),
    "half": ClusterConfig(num_workers=1, gpus_per_worker=0.5),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the workers of each of CLUSTERS found, all on one Ray cluster at the same time."""
    import ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        num_cpus=12,
        num_gpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 1024**2,
        _temp_dir=tempfile.mkdtemp(prefix="pp-ray-", dir="/tmp"),  # sockets want a short path
    )
    try:
        folders = [tmp_path_factory.mktemp("slot") for _ in CLUSTERS]
        with ThreadPoolExecutor() as pool:
            each = list(pool.map(workers, folders, CLUSTERS.values()))
        return dict(zip(CLUSTERS, each, strict=True))
    finally:
        ray.shutdown()


def facts(config: dict[str, Any]) -> None:
    """On each worker: its device, and what DeepSpeed would find."""
    import ray.train

    from components.jobs.slot_worker import device_of_worker
    from components.training.devices import rank_environment

    device = device_of_worker(config["gpus"])
    found = {"device": device, **rank_environment(device, os.environ)}
    found["visible"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    rank = ray.train.get_context().get_world_rank()
    (Path(config["folder"]) / f"{rank}.json").write_text(json.dumps(found))


def workers(folder: Path, cluster: ClusterConfig) -> list[dict[str, str]]:
    from ray.train import RunConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from components.jobs.worker_group import scaling

    TorchTrainer(
        facts,
        train_loop_config={"folder": str(folder), "gpus": cluster.gpus_per_worker},
        scaling_config=scaling(cluster),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(name="facts", storage_path=str(folder)),
    ).fit()
    return [
        json.loads((folder / f"{rank}.json").read_text()) for rank in range(cluster.num_workers)
    ]


def test_without_gpus_asked_for_a_worker_computes_on_the_cpu(found: Found) -> None:
    (worker,) = found["none"]
    assert (worker["device"], worker["DS_ACCELERATOR"]) == ("cpu", "cpu")
    assert worker["CUDA_VISIBLE_DEVICES"] == ""


def test_with_one_gpu_each_every_rank_has_its_own_and_deepspeed_the_same(found: Found) -> None:
    assert len({worker["device"] for worker in found["one each"]}) == 2
    for worker in found["one each"]:
        assert worker["device"] == f"cuda:{worker['LOCAL_RANK']}"
        assert int(worker["LOCAL_RANK"]) < len(worker["visible"].split(","))


def test_half_a_gpu_is_the_only_one_that_the_worker_sees(found: Found) -> None:
    (worker,) = found["half"]
    assert (worker["device"], worker["LOCAL_RANK"]) == ("cuda:0", "0")
