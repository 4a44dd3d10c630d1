"""What is known of a cluster's GPUs, from nodes as Ray tells them."""

from typing import Any

from components.planning import cluster_gpus

GIB = 1024**3


def node(gpus: float, kind: str | None = None, label: str | None = None) -> dict[str, Any]:
    resources = {"CPU": 8.0} | ({"GPU": gpus} if gpus else {})
    resources |= {f"accelerator_type:{kind}": 1.0} if kind else {}
    return {
        "resources_total": resources,
        "labels": {"ray.io/accelerator-type": label} if label else {},
    }


def test_what_the_nodes_report_counts_before_the_kinds_name() -> None:
    summaries = [{"gpus": [{"name": "NVIDIA A100", "memoryTotal": 81920}] * 2}]
    told = cluster_gpus([node(2, "A100")], summaries)
    assert (told.memory_bytes, told.source) == (80 * GIB, "reported by the nodes")


def test_a_report_of_some_gpus_alone_is_no_report_of_the_smallest() -> None:
    summaries = [{"gpus": [{"name": "NVIDIA H100", "memoryTotal": 81920}]}, {"gpus": []}]
    told = cluster_gpus([node(1, "H100"), node(1, "T4")], summaries)
    assert told.memory_bytes == 16 * GIB


def test_the_smallest_gpu_decides() -> None:
    assert cluster_gpus([node(1, "H100"), node(4, "L4"), node(0)], []).memory_bytes == 24 * GIB


def test_a_kind_is_read_from_the_label_where_no_resource_names_it() -> None:
    told = cluster_gpus([node(1, label="H200")], [])
    assert (told.kinds, told.memory_bytes) == (("H200",), 141 * GIB)


def test_an_unknown_kind_is_said_to_be_unknown() -> None:
    told = cluster_gpus([node(1, "X9")], [])
    assert told.memory_bytes is None and "kind X9 is not known" in told.source
    silent = cluster_gpus([node(1)], [])
    assert silent.memory_bytes is None and "does not say" in silent.source


def test_a_cluster_without_gpus_has_none() -> None:
    assert cluster_gpus([node(0)], [{"gpus": []}]).source == "no GPU"
