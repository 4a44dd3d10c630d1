"""Slots go where the settings say, on nodes whose GPUs are numbers that Ray was told."""

import json
from typing import Any

import pytest

from tests.nodes.ray_nodes import RayNodes

pytestmark = pytest.mark.slow

GPU = {"gpus_per_worker": 1.0}
H100, A100 = "node1", "node2"
"""As conftest.py starts them: four GPUs each, in zone a and zone b."""

PLACES = """
import json, time
from components.config import validate
from components.config.cluster import ClusterConfig
from components.jobs.cluster import check_cluster_fits
from components.jobs.worker_group import scaling

names = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes()}
for values in json.loads(VALUES):
    cluster = validate(ClusterConfig, values)
    try:
        check_cluster_fits(cluster, slots=1)
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
        continue
    wanted = scaling(cluster)
    # As Ray Train places a group of workers.
    group = ray.util.placement_group(
        [wanted._resources_per_worker_not_none] * cluster.num_workers,
        strategy=wanted.placement_strategy,
        bundle_label_selector=wanted._label_selector_per_worker(cluster.num_workers),
    )
    ray.get(group.ready(), timeout=60)
    table = ray.util.placement_group_table(group)
    print(json.dumps(sorted(names[node] for node in table["bundles_to_node_id"].values())))
    ray.util.remove_placement_group(group)
    while ray.available_resources().get("GPU") != ray.cluster_resources()["GPU"]:
        time.sleep(0.1)  # the next one finds all nodes free
"""


def places(cluster: RayNodes, *values: dict[str, Any]) -> list[Any]:
    """Where each of these slots is placed: the machine of every worker, or the error."""
    said = cluster.ask(f"VALUES = {json.dumps(json.dumps(values))}\n{PLACES}")
    return [json.loads(line) for line in said.splitlines() if line[:1] in ('"', "[")]


def test_workers_are_packed_spread_or_on_one_node(cluster: RayNodes) -> None:
    two = {"num_workers": 2, **GPU}
    packed, spread, whole = places(
        cluster,
        two,
        two | {"placement": "spread"},
        {"num_workers": 4, "placement": "one_node", "cpus_per_worker": 0.5, **GPU},
    )
    assert len(set(packed)) == 1
    assert spread == [H100, A100]
    assert len(set(whole)) == 1 and len(whole) == 4


def test_a_kind_of_gpu_and_labels_choose_the_node(cluster: RayNodes) -> None:
    two = {"num_workers": 2, **GPU}
    by_kind, by_label, both, plain = places(
        cluster,
        two | {"accelerator_type": "A100"},
        two | {"node_labels": {"zone": "a"}},
        two | {"accelerator_type": "H100", "node_labels": {"zone": "a"}},
        {"num_workers": 2, "node_labels": {"zone": "b"}},
    )
    assert by_kind == [A100, A100]
    assert by_label == [H100, H100]
    assert both == [H100, H100]
    assert plain == [A100, A100]


def test_what_the_cluster_cannot_place_is_refused_before_anything_starts(
    cluster: RayNodes,
) -> None:
    whole, kind, label, both = places(
        cluster,
        {"num_workers": 6, "cpus_per_worker": 0.5, "placement": "one_node", **GPU},
        {"accelerator_type": "B200", **GPU},
        {"node_labels": {"zone": "c"}},
        {"accelerator_type": "H100", "node_labels": {"zone": "b"}, **GPU},
    )
    assert "cluster.placement one_node: 1 slot(s) of 6 worker(s)" in whole
    assert "no node of the cluster has 'B200'; it has A100, H100" in kind
    assert "cluster.node_labels: no node has zone=c" in label
    assert "no node with H100 has zone=b; there are zone=a" in both
