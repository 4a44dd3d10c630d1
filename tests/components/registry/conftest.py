from tests.postgres import new_postgres_database
from tests.registry_fixtures import mlflow_server, mlflow_uri, plain_adapter, tiny_adapter

__all__ = ["mlflow_server", "mlflow_uri", "new_postgres_database", "plain_adapter", "tiny_adapter"]
