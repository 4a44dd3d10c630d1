"""Is the MLflow store there, and does it accept us? Answered in seconds, before anything starts."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

from components.errors import ClusterError

TIMEOUT_SECONDS = 4.0


def check_store(tracking_uri: str) -> None:
    """Raise ClusterError with one line: the address, what is wrong with it, and how to mend it."""
    scheme = urlsplit(tracking_uri).scheme
    if scheme in ("http", "https"):
        _check_server(tracking_uri)
    elif scheme == "sqlite":
        folder = Path(tracking_uri.removeprefix("sqlite:///")).resolve().parent
        if not folder.is_dir():
            raise ClusterError(
                f"MLflow store {tracking_uri}: the folder '{folder}' does not exist. Make it, or "
                "set MLFLOW_TRACKING_URI to another store."
            )
    elif scheme not in ("postgresql", "postgresql+psycopg2", "mysql", "mysql+pymysql"):
        raise ClusterError(
            f"MLFLOW_TRACKING_URI is '{tracking_uri}', which is no server and no database. Give "
            "http://host:port (`prefixprop up` starts a server) or sqlite:///path/mlflow.db."
        )


def _check_server(tracking_uri: str) -> None:
    where, mend = (
        f"The MLflow server at {tracking_uri}",
        "Start one with `prefixprop up`, or set MLFLOW_TRACKING_URI.",
    )
    parts = urlsplit(tracking_uri)
    try:
        # First, because importing mlflow takes seconds and a wrong address needs none of it.
        socket.create_connection(
            (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)),
            timeout=TIMEOUT_SECONDS,
        ).close()
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
    except MlflowException as error:
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
            "and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    if answer.status_code != 200 or not answer.text.lstrip().startswith("{"):
        raise ClusterError(
            f"{where} answered {answer.status_code} to an MLflow request: no working MLflow "
            f"server. {mend}"
        )
