"""Is the MLflow store there, and does it accept us? Answered in seconds, before anything starts."""

import socket
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from components.errors import ClusterError
from components.loopback import is_proxied
from components.registry.store_address import sqlite_file

# What MLflow speaks through SQLAlchemy: the port where none is given, the drivers' modules.
DATABASES = {
    "postgresql": (5432, ("psycopg2", "psycopg")),
    "mysql": (3306, ("MySQLdb", "pymysql", "mysql")),
    "mssql": (1433, ("pyodbc", "pymssql")),
}

TIMEOUT_SECONDS = 4.0


def check_store(tracking_uri: str) -> None:
    """Raise ClusterError with one line: the address, what is wrong with it, and how to mend it."""
    scheme = urlsplit(tracking_uri).scheme
    if scheme in ("http", "https"):
        _check_server(tracking_uri)
    elif (file := sqlite_file(tracking_uri)) is not None:
        if not file.parent.is_dir():
            raise ClusterError(
                f"MLflow store {tracking_uri}: the folder '{file.parent}' does not exist. Make it, "
                "or set MLFLOW_TRACKING_URI to another store."
            )
        check_sqlite(file)
        if file.exists() and file.stat().st_size:
            _check_opens(tracking_uri)
    elif scheme.partition("+")[0] in DATABASES:
        _check_database(tracking_uri)
    else:
        raise ClusterError(
            f"MLFLOW_TRACKING_URI is '{tracking_uri}', which is no server and no database. Give "
            "http://host:port (`prefixprop up` starts a server) or sqlite:///path/mlflow.db."
        )


def check_sqlite(file: Path) -> None:
    """Raise ClusterError where a file that is there holds something else than a whole database. An
    empty one is a new one.
    """
    try:
        if not file.exists() or file.stat().st_size == 0:
            return
        # Not read-only: what a killed writer left half done is rolled back by the next one.
        store = sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=TIMEOUT_SECONDS)
        try:
            answer = str(store.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            store.close()
    except (sqlite3.DatabaseError, OSError) as error:
        answer = str(error)
    if answer != "ok" and "locked" not in answer:
        raise ClusterError(
            f"MLflow store '{file}' is no whole database ({' '.join(answer.split())}): a full disk "
            "or a power cut leaves such a file. Put a copy of it back, or move it away and begin "
            "with an empty one."
        )


def _check_database(tracking_uri: str) -> None:
    """Whether its driver is installed, something listens there (MLflow itself would try for
    minutes), and it opens.
    """
    parts = urlsplit(tracking_uri)
    engine, _, driver = parts.scheme.partition("+")
    port, drivers = DATABASES[engine]
    if not any(find_spec(name) for name in ((driver,) if driver else drivers)):
        raise ClusterError(
            f"MLflow store {tracking_uri} needs the Python driver {driver or drivers[0]}, which is "
            "not installed. Install it, or set MLFLOW_TRACKING_URI to an MLflow server."
        )
    try:
        host = parts.hostname
        if host is not None:  # without one, the driver's own default: a socket of this machine
            socket.create_connection((host, parts.port or port), timeout=TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"MLflow store {tracking_uri} cannot be reached ({error}). Start the database, or "
            "correct MLFLOW_TRACKING_URI."
        ) from error
    _check_opens(tracking_uri)


def _check_opens(tracking_uri: str) -> None:
    """Ask the database for something: one of another version of MLflow is told here, and a refused
    password.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        MlflowClient(tracking_uri, tracking_uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        reason = str(error).strip().splitlines()[0][:600].replace("<database_uri>", tracking_uri)
        raise ClusterError(f"MLflow store {tracking_uri} cannot be used: {reason}") from error


def _check_server(tracking_uri: str) -> None:
    where, mend = (
        f"The MLflow server at {tracking_uri}",
        "Start one with `prefixprop up`, or set MLFLOW_TRACKING_URI.",
    )
    parts = urlsplit(tracking_uri)
    try:
        # First, because importing mlflow takes seconds and a wrong address needs none of it. What
        # stands behind a proxy need not be reachable from here.
        if not is_proxied(tracking_uri):
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname or "", port), timeout=TIMEOUT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(f"{where} cannot be reached ({error}). {mend}") from error
    from mlflow.exceptions import MlflowException
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        # An API call, not /health: that one is answered without credentials.
        answer = http_request(
            get_default_host_creds(tracking_uri),
            "/api/2.0/mlflow/experiments/search",
            "POST",
            json={"max_results": 1},
            max_retries=0,
            timeout=TIMEOUT_SECONDS,
            raise_on_status=False,
        )
    except (MlflowException, OSError, ValueError) as error:
        raise ClusterError(
            f"{where} took the connection but gave no answer: {str(error).splitlines()[0][:300]} "
            f"{mend}"
        ) from error
    if "invalid host" in answer.text.lower()[:200]:
        raise ClusterError(
            f"{where} does not answer to this host name. Name it in the server's --allowed-hosts, "
            "with and without the port."
        )
    if answer.status_code in (401, 403):
        raise ClusterError(
            f"{where} refused the credentials ({answer.status_code}). Set MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; for a job, in the environment "
            "of the cluster's own processes."
        )
    if answer.status_code != 200 or not answer.text.lstrip().startswith("{"):
        raise ClusterError(
            f"{where} answered {answer.status_code} to an MLflow request: no working MLflow "
            f"server. {mend}"
        )
