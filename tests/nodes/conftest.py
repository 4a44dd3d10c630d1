from collections.abc import Iterator

import pytest

from tests.nodes.network import why_not
from tests.nodes.ray_nodes import RayNodes, ray_nodes, start_plain_mlflow


@pytest.fixture(scope="session", autouse=True)
def _machines() -> None:
    if reason := why_not():
        pytest.skip(reason)


def gpus(kind: str, zone: str) -> dict[str, object]:
    """Four GPUs that Ray believes in, and where the node stands."""
    return {
        "num_gpus": 4,
        "resources": f'{{"accelerator_type:{kind}": 1}}',
        "labels": f"zone={zone}",
    }


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayNodes]:
    """Three nodes of 2 CPUs, two of them with GPUs, and MLflow on a fourth machine."""
    with ray_nodes({}, gpus("H100", "a"), gpus("A100", "b")) as nodes:
        start_plain_mlflow(nodes)
        yield nodes
