"""MLflow's server as a team has it (infra/README.md): users with passwords, runs in PostgreSQL and
artifacts in S3. `python -m tests.team_server URI` makes Ann's account, by the passwords in ADMINS
and ANNS: for a test whose server listens on another machine.
"""

import json
import os
import secrets
import sys
import urllib.request
from pathlib import Path

from tests.s3 import CREDENTIALS

ADMIN, ANN, BUCKET = "admin", "ann", "runs-of-a-team"


def server_options(database: str) -> dict[str, str]:
    """Of `mlflow server`."""
    return {
        "app-name": "basic-auth",
        "backend-store-uri": database,
        "artifacts-destination": f"s3://{BUCKET}",
    }


def server_variables(folder: Path, database: str, endpoint: str, admins: str) -> dict[str, str]:
    """Of its environment; who may what is written into the folder. `endpoint`: of the S3 store,
    `admins`: the administrator's password.
    """
    users = folder / "auth.ini"
    users.write_text(
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = {database}\n"
        f"admin_username = {ADMIN}\n"
        "auth_cache_ttl_seconds = 60\n"  # or every request hashes the password anew
    )
    return CREDENTIALS | {
        "MLFLOW_AUTH_CONFIG_PATH": str(users),
        "MLFLOW_AUTH_ADMIN_PASSWORD": admins,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        "MLFLOW_S3_ENDPOINT_URL": endpoint,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def make_user(uri: str, *, admins: str, password: str) -> None:
    """Give Ann an account on the server, with this password."""
    manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
    manager.add_password(None, uri, ADMIN, admins, is_authenticated=True)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(manager))
    content = json.dumps({"username": ANN, "password": password}).encode()
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/users/create", content, {"Content-Type": "application/json"}
    )
    opener.open(request, timeout=60).close()


if __name__ == "__main__":
    make_user(sys.argv[1], admins=os.environ["ADMINS"], password=os.environ["ANNS"])
