from tests.postgres import new_postgres_database
from tests.s3 import s3_endpoint

__all__ = ["new_postgres_database", "s3_endpoint"]
