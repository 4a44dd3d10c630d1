"""Which device a rank computes on, asked with facts of machines that are not here."""

import pytest

from components.config.cluster import ClusterConfig
from components.errors import ClusterError, ConfigError
from components.settings import Config
from components.training.devices import collective_backend, rank_device, rank_environment

FOUR = ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("facts", "device"),
    [
        ({"gpus_per_worker": 0, "visible": FOUR}, "cpu"),
        ({"gpus_per_worker": 1, "visible": ("2", "3"), "assigned": ("3",)}, "cuda:1"),
        ({"gpus_per_worker": 1, "visible": FOUR, "assigned": ("0",), "local_rank": 3}, "cuda:0"),
        ({"gpus_per_worker": 0.5, "visible": ("3",), "assigned": ("3",)}, "cuda:0"),
        ({"gpus_per_worker": None, "visible": FOUR, "local_rank": 2}, "cuda:2"),
        ({"gpus_per_worker": None, "visible": ()}, "cpu"),
    ],
    ids=["none asked", "one of two", "rank and GPU in another order", "half", "torchrun", "alone"],
)
def test_a_rank_computes_on_the_device_that_it_was_given(facts: dict, device: str) -> None:
    assert rank_device(**facts) == device


@pytest.mark.parametrize(
    "facts",
    [
        {"gpus_per_worker": 1, "visible": ()},
        {"gpus_per_worker": 1, "visible": ("0",), "assigned": ("1",)},
        {"gpus_per_worker": None, "visible": ("0",), "local_rank": 1},
    ],
    ids=["no GPU", "another one", "more ranks than GPUs"],
)
def test_a_gpu_that_is_not_there_is_a_line_that_names_the_fix(facts: dict) -> None:
    with pytest.raises(ClusterError, match=r"(Set|set|Start|Install) "):
        rank_device(**facts)


def test_deepspeed_and_torch_agree_on_accelerator_and_number() -> None:
    on_gpu = rank_environment("cuda:1", {"LOCAL_RANK": "0"})
    assert on_gpu == {"DS_ACCELERATOR": "cuda", "LOCAL_RANK": "1"}
    on_cpu = rank_environment("cpu", {"LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "0,1"})
    assert on_cpu == {"DS_ACCELERATOR": "cpu", "LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": ""}
    assert (collective_backend("cuda:1"), collective_backend("cpu")) == ("nccl", "gloo")


@pytest.mark.parametrize(
    ("workers", "gpus", "fix"),
    [(1, 2, "num_workers to 2"), (2, 2, "num_workers to 4"), (2, 0.5, "num_workers to 1")],
    ids=["two", "two for each of two", "halves of two"],
)
def test_gpus_that_a_worker_could_not_use_are_refused(workers: int, gpus: float, fix: str) -> None:
    from components.config import validate

    with pytest.raises(ConfigError, match=fix):
        validate(ClusterConfig, {"num_workers": workers, "gpus_per_worker": gpus})


def test_a_gpu_each_and_a_share_of_one_mean_something() -> None:
    from components.config import validate

    for workers, gpus in ((1, 0), (1, 0.25), (1, 1), (8, 1)):
        config: Config = validate(ClusterConfig, {"num_workers": workers, "gpus_per_worker": gpus})
        assert config.model_dump()["gpus_per_worker"] == gpus
