"""The address of a tracking store, and the user and password that do not belong into it.

MLflow takes `http://user:password@host`; such an address then stands in every link, error and job.
So what is kept as the address is without them, and MLflow gets them by the two variables that it
has for this. A database has no such variables: its address is kept whole and never shown whole
(components/secrets.py).
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from components.errors import ConfigError
from components.secrets import holds_secret
from components.settings import expand_path

USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
SQLITE = "sqlite:///"


def split_credentials(tracking_uri: str) -> tuple[str, dict[str, str]]:
    """(the address without user and password, the variables that hold them).

    Raises ConfigError for a server's address that cannot be taken apart: half of the two, a token
    as its user, a query.
    """
    if tracking_uri.startswith(SQLITE):
        return SQLITE + expand_path(tracking_uri.removeprefix(SQLITE)), {}
    if not tracking_uri.lower().startswith(("http://", "https://")):
        return tracking_uri, {}
    try:
        parts = urlsplit(tracking_uri)
        _ = parts.port
    except ValueError:
        # Its text quotes what stands where the port should: part of a password.
        raise ConfigError(
            f"MLFLOW_TRACKING_URI '{_without_user(tracking_uri)}' is no address. Give "
            f"http://host:port, and user and password as {USER} and {PASSWORD}."
        ) from None
    if parts.query or parts.fragment:
        raise ConfigError(
            "MLFLOW_TRACKING_URI has a query or a fragment, to which MLflow cannot add its paths. "
            "Give http://host:port, and a token as MLFLOW_TRACKING_TOKEN."
        )
    if "@" not in parts.netloc:
        return tracking_uri, {}
    host = parts.netloc.rpartition("@")[2]
    address = urlunsplit((parts.scheme, host, parts.path, "", ""))
    if not parts.username or not parts.password:
        raise ConfigError(
            f"MLFLOW_TRACKING_URI names a user or a token for {address} and not both user and "
            f"password. Give {USER} and {PASSWORD}, or MLFLOW_TRACKING_TOKEN, and the address "
            "alone."
        )
    return address, {USER: unquote(parts.username), PASSWORD: unquote(parts.password)}


def _without_user(tracking_uri: str) -> str:
    scheme, _, rest = tracking_uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def check_passed_on(tracking_uri: str) -> None:
    """Raise ConfigError where the address cannot stand where others read it."""
    if holds_secret(tracking_uri):
        raise ConfigError(
            "MLFLOW_TRACKING_URI holds a password, and a job's environment is read on the "
            "dashboard by everybody who reaches it. Give the address without it and let the "
            "cluster's own processes have it (PostgreSQL: PGPASSWORD or ~/.pgpass), or put an "
            "MLflow server before the database."
        )


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file of a sqlite store; None for every other store."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(tracking_uri.removeprefix(SQLITE).partition("?")[0]).resolve()
