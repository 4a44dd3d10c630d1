from tests.pipelines.typed import experiment
from tests.postgres import new_postgres_database, shared_database
from tests.ray_cluster import ray_address, ray_cluster
from tests.registry_fixtures import mlflow_server, mlflow_uri, plain_adapter, tiny_adapter
from tests.s3 import s3_endpoint

__all__ = [
    "experiment",
    "mlflow_server",
    "mlflow_uri",
    "new_postgres_database",
    "plain_adapter",
    "ray_address",
    "ray_cluster",
    "s3_endpoint",
    "shared_database",
    "tiny_adapter",
]
