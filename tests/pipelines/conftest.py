from tests.pipelines.typed import experiment
from tests.ray_cluster import ray_address
from tests.registry_fixtures import mlflow_server, mlflow_uri, plain_adapter, tiny_adapter

__all__ = [
    "experiment",
    "mlflow_server",
    "mlflow_uri",
    "plain_adapter",
    "ray_address",
    "tiny_adapter",
]
