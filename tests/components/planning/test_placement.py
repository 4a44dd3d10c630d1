"""Slots that no division of the cluster's nodes has room for are refused, with what would do."""

from typing import Any

import pytest

from components.config import validate
from components.config.cluster import ClusterConfig
from components.errors import ConfigError
from components.planning import Node, check_placement, node_of

TWO_BOXES = [
    Node("10.0.0.1", 16.0, 4.0, ("H100",), {"zone": "a"}),
    Node("10.0.0.2", 16.0, 4.0, ("A100",), {"zone": "b"}),
]
WHOLE = {"gpus_per_worker": 1}


def cluster(**values: Any) -> ClusterConfig:
    return validate(ClusterConfig, values)


@pytest.mark.parametrize(
    ("values", "slots"),
    [
        ({"num_workers": 8, **WHOLE}, 1),
        ({"num_workers": 4, "placement": "one_node", **WHOLE}, 2),
        ({"num_workers": 2, "placement": "one_node", **WHOLE}, 4),
        ({"num_workers": 4, "accelerator_type": "H100", **WHOLE}, 1),
        ({"num_workers": 4, "node_labels": {"zone": "b"}, **WHOLE}, 1),
        ({"gpus_per_worker": 0.5}, 16),
        ({"num_workers": 32}, 1),
    ],
)
def test_what_has_a_place_is_let_through(values: dict[str, Any], slots: int) -> None:
    check_placement(cluster(**values), slots=slots, nodes=TWO_BOXES)


@pytest.mark.parametrize(
    ("values", "slots", "line"),
    [
        (
            {"num_workers": 6, "placement": "one_node", **WHOLE},
            1,
            r"^cluster\.placement one_node: 1 slot\(s\) of 6 worker\(s\), each slot on one node, "
            r"but workers of 1 CPU and 1 GPU that a node holds: 10\.0\.0\.1 4; 10\.0\.0\.2 4\. .*"
            r"set cluster\.placement to pack",
        ),
        (
            {"num_workers": 3, "placement": "one_node", **WHOLE},
            3,  # nine GPUs of eight: two slots of three are all that fit four and four
            r"^cluster\.placement one_node: 3 slot",
        ),
        (
            {"cpus_per_worker": 10.0, "num_workers": 3},
            1,  # thirty cores of thirty-two, but a worker is on one node
            r"^cluster\.num_workers: 1 slot\(s\) x 3 worker\(s\), but workers of 10 CPU that a "
            r"node holds: 10\.0\.0\.1 1; 10\.0\.0\.2 1\.",
        ),
        ({"gpus_per_worker": 0.6}, 9, r"^cluster\.num_workers: 9 slot"),
        (
            {"accelerator_type": "B200", **WHOLE},
            1,
            r"^cluster\.accelerator_type: no node of the cluster has 'B200'; it has A100, H100\.",
        ),
        (
            {"num_workers": 5, "accelerator_type": "H100", **WHOLE},
            1,
            r"^cluster\.num_workers: 1 slot\(s\) x 5 worker\(s\), but .*10\.0\.0\.1 4\.",
        ),
        (
            {"accelerator_type": "H100", "node_labels": {"zone": "b"}, **WHOLE},
            1,
            r"^cluster\.node_labels: no node with H100 has zone=b; there are zone=a\.",
        ),
    ],
)
def test_what_never_has_a_place_is_refused(values: dict[str, Any], slots: int, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        check_placement(cluster(**values), slots=slots, nodes=TWO_BOXES)


def test_a_node_is_read_from_what_ray_tells_of_it() -> None:
    told = {"CPU": 8.0, "GPU": 2.0, "accelerator_type:H100": 1.0, "memory": 1e9}
    labels = {"zone": "a", "ray.io/node-id": "f00"}
    assert node_of("10.0.0.3", told, labels) == Node("10.0.0.3", 8.0, 2.0, ("H100",), labels)


def test_a_kind_of_gpu_without_gpus_is_refused() -> None:
    with pytest.raises(ConfigError, match="accelerator_type 'H100' with gpus_per_worker 0"):
        cluster(accelerator_type="H100")


@pytest.mark.parametrize("labels", [{"zone": "in(a,b)"}, {"zone": "!a"}, {"a b": "c"}])
def test_labels_are_exact_words(labels: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="node_labels"):
        cluster(node_labels=labels)
