"""What workers of a slot get of a cluster's GPUs. Ray takes num_gpus=4 on a machine without any, so
that placement and environment are real, and only the cards are not.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.config.cluster import ClusterConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def four_gpus() -> Iterator[None]:
    import ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    folder = tempfile.mkdtemp(prefix="pp-ray-", dir="/tmp")
    ray.init(
        address="local",
        num_cpus=12,
        num_gpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 1024**2,
        _temp_dir=folder,
    )
    yield
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


def test_without_gpus_asked_for_a_worker_computes_on_the_cpu(
    four_gpus: None, tmp_path: Path
) -> None:
    (found,) = workers(tmp_path, ClusterConfig(num_workers=1, cpus_per_worker=1))
    assert (found["device"], found["DS_ACCELERATOR"]) == ("cpu", "cpu")
    assert found["CUDA_VISIBLE_DEVICES"] == ""


def test_with_one_gpu_each_every_rank_has_its_own_and_deepspeed_the_same(
    four_gpus: None, tmp_path: Path
) -> None:
    found = workers(tmp_path, ClusterConfig(num_workers=2, cpus_per_worker=1, gpus_per_worker=1))
    assert len({each["device"] for each in found}) == 2
    for each in found:
        assert each["device"] == f"cuda:{each['LOCAL_RANK']}"
        assert int(each["LOCAL_RANK"]) < len(each["visible"].split(","))


def test_half_a_gpu_is_the_only_one_that_the_worker_sees(four_gpus: None, tmp_path: Path) -> None:
    (found,) = workers(tmp_path, ClusterConfig(num_workers=1, gpus_per_worker=0.5))
    assert (found["device"], found["LOCAL_RANK"]) == ("cuda:0", "0")
