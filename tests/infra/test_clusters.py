"""What the merged manifests say, and the code relies on; no cluster takes them here."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pipelines.experiments import load_experiment
from tests.infra.kinds.kustomization import merged
from tests.infra.references import INFRA

OVERLAYS = sorted(path.parent.name for path in (INFRA / "kuberay" / "overlays").glob("*/kust*"))
STANDING = [name for name in OVERLAYS if not name.endswith("-search")]
EXPERIMENT = INFRA / "kuberay" / "base" / "experiments" / "reviews.yaml"


def pinned(name: str) -> str:
    text = (INFRA.parent / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{name}==(\S+)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def documents(overlay: str) -> dict[str, Any]:
    """The last document of each kind."""
    found = merged(INFRA / "kuberay" / "overlays" / overlay)
    return {each["kind"]: each for each in found}


def cluster_of(overlay: str) -> dict[str, Any]:
    found = documents(overlay)
    if "RayJob" in found:
        return dict(found["RayJob"]["spec"]["rayClusterSpec"])
    return dict(found["RayCluster"]["spec"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_cluster_is_the_pinned_ray_and_asks_for_a_token(overlay: str) -> None:
    spec = cluster_of(overlay)
    assert spec["rayVersion"] == pinned("ray")
    assert spec["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("overlay", STANDING)
def test_a_search_has_the_pods_of_the_standing_cluster_and_does_not_grow(overlay: str) -> None:
    standing, found = cluster_of(overlay), documents(f"{overlay}-search")
    searching = found["RayJob"]["spec"]["rayClusterSpec"]
    for part in ("headGroupSpec", "workerGroupSpecs"):
        assert searching[part] == standing[part]
    assert standing["enableInTreeAutoscaling"] is True
    assert "enableInTreeAutoscaling" not in searching, "Kueue would refuse it"
    assert set(found) == {"RayJob", "ConfigMap", "NetworkPolicy"} | {
        "PersistentVolumeClaim",
        "PriorityClass",
    }


@pytest.mark.parametrize("overlay", [name for name in OVERLAYS if name.endswith("-search")])
def test_the_pods_hold_the_slots_of_the_search_each_in_one_pod(overlay: str) -> None:
    job = documents(overlay)["RayJob"]["spec"]
    words = shlex.split(job["entrypoint"])
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    config = load_experiment(str(EXPERIMENT), overrides)
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    workers = config.cluster.num_workers
    assert workers * config.cluster.cpus_per_worker <= float(limits["cpu"])
    assert workers * config.cluster.gpus_per_worker == float(limits.get("nvidia.com/gpu", 0))
    assert config.search.concurrent_slots == group["replicas"] <= group["maxReplicas"]


@pytest.mark.parametrize("overlay", ["gpu-spot", "gpu-spot-search"])
def test_the_head_stays_where_no_node_is_taken_away(overlay: str) -> None:
    spec = cluster_of(overlay)
    head = spec["headGroupSpec"]["template"]["spec"]
    (group,) = spec["workerGroupSpecs"]
    worker = group["template"]["spec"]
    assert head["nodeSelector"] == {"prefixprop/pool": "cpu"} and "tolerations" not in head
    assert worker["nodeSelector"] == {"prefixprop/pool": "gpu-spot"}
    tolerated = {each["key"] for each in worker["tolerations"]}
    assert tolerated == {"nvidia.com/gpu", "prefixprop/pool"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_an_ordinary_user_with_shared_memory(overlay: str) -> None:
    spec = cluster_of(overlay)
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        volumes = {each["name"]: each for each in pod["volumes"]}
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert "persistentVolumeClaim" in volumes[mounts["/storage"]]


@pytest.mark.parametrize("overlay", STANDING)
def test_the_schedule_s_files_lie_where_its_command_looks(overlay: str) -> None:
    spec = documents(overlay)["CronJob"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (file,) = re.findall(r"\S+\.yaml", container["args"][0])
    folder = Path(container["workingDir"])
    assert str(folder / file) in {each["mountPath"] for each in container["volumeMounts"]}
