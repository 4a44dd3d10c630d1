"""Searches on several machines, as the tests compare them."""

from typing import Any

from tests.conftest import build_tiny_longformer
from tests.faults.harness import outcome, tracked
from tests.nodes.network import Machine
from tests.nodes.ray_nodes import RayNodes
from tests.toy import make_experiment

WORKER = "RayTrainWorker"


def two_rank_search(cluster: RayNodes, **changes: Any) -> dict[str, Any]:
    """Two short trials, one after the other in one slot of two ranks."""
    values = make_experiment(
        cluster.shared,
        build_tiny_longformer(),
        **{
            "cluster.num_workers": 2,
            # Three nodes on the cores of one start their processes slowly.
            "cluster.placement_timeout_seconds": 600,
            "training.epochs": 6,
            "search": {
                "searcher": "grid",
                "trial_scheduler": "none",
                "reuse_trials": False,
                "space": {"optimizer.learning_rate": {"choice": [1e-2, 1e-3]}},
            },
            "gate": None,
            **changes,
        },
    )
    return values


def workers_on(machine: Machine) -> int:
    """Workers of slots that live on a machine."""
    return sum(WORKER in line for line in machine.run("ps", "axo", "args").splitlines())


def machines_with_workers(cluster: RayNodes) -> dict[str, int]:
    """Machine -> its workers, where there are any."""
    found = {node.machine.name: workers_on(node.machine) for node in cluster.nodes}
    return {name: count for name, count in found.items() if count}


def result(cluster: RayNodes, report: dict[str, Any]) -> dict[str, Any]:
    """What a search computed, and what MLflow keeps of it."""
    return {
        "report": outcome(report),
        # The server's own database: it listens where this process is not.
        "tracked": tracked(f"sqlite:///{cluster.folder}/mlflow.db", report["experiment"]),
    }
