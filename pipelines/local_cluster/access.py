"""Who may use the embedded cluster: the owner of its state folder, and nobody else.

Both servers listen on 127.0.0.1, which every user of the machine and every page in a browser
reaches. So each asks for a token, which lies in the state folder, and the folder is open to its
owner alone. The fact a newcomer gets wrong: Ray looks for a token only where RAY_AUTH_MODE=token is
set, so a token in ~/.ray/auth_token would not do; nothing outside the state folder is written.
"""

import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.atomic_file import atomic_file
from components.errors import ConfigError
from components.registry import MLFLOW_USER, entry_link
from components.settings import expand_path
from pipelines.local_cluster.state_file import LocalCluster

PRIVATE_FOLDER, PRIVATE_FILE, PRIVATE_UMASK = 0o700, 0o600, 0o077
RAY_TOKEN, MLFLOW_TOKEN, ENVIRONMENT = "ray_token", "mlflow_token", "environment"
USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"


@dataclass(frozen=True)
class Access:
    """How a person gets to both servers."""

    mlflow_link: str
    """Opens MLflow in a browser; works for a day."""
    environment_file: str
    """What a shell reads before `ray` and `mlflow` are typed in it."""
    ray_token_file: str
    """The token that Ray's dashboard asks for; empty where it asks for none."""


def private_folder(folder: Path, setting: str) -> Path:
    """The folder, made where it was not there, open to its owner alone, whatever it was before.
    Raises ConfigError that names the setting and the folder.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    if folder.stat().st_mode & 0o077:
        try:
            folder.chmod(PRIVATE_FOLDER)
        except OSError as error:
            raise ConfigError(
                f"{setting}: '{folder}' is open to other users and cannot be closed "
                f"({error.strerror}). Give a folder of your own."
            ) from error
    return folder


def kept_token(file: Path, given: str = "") -> str:
    """The token of a file, which is made where it is not there; `given` takes its place.

    It outlives `down` and `up`, so that terminals, links and browsers stay let in: it is as secret
    as the runs and models beside it. Without the file the next `up` makes another one.
    """
    token = given or read_token(file)
    if not token:
        token = secrets.token_hex(32)
    _write_private(file, token)
    return token


def read_token(file: Path) -> str:
    """What the file holds; empty where it is not there or holds no token."""
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return token if token.isprintable() else ""


def ray_environment(state_folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """How a new Ray cluster authenticates: by a token, unless RAY_AUTH_MODE says otherwise. One
    that the environment holds is made the cluster's own.
    """
    mode = environ.get("RAY_AUTH_MODE") or "token"
    if mode != "token":
        return {"RAY_AUTH_MODE": mode}
    file = state_folder / RAY_TOKEN
    kept_token(file, given=_given_ray_token(environ))
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}


def _given_ray_token(environ: Mapping[str, str]) -> str:
    given = (environ.get("RAY_AUTH_TOKEN") or "").strip()
    if not given and environ.get("RAY_AUTH_TOKEN_PATH"):
        given = read_token(Path(expand_path(environ["RAY_AUTH_TOKEN_PATH"])))
    if not (given.isascii() and given.isprintable()):
        raise ConfigError("RAY_AUTH_TOKEN holds characters that no token has. Set another one.")
    return given


def mlflow_credentials(state_folder: Path) -> dict[str, str]:
    """The variables by which an MLflow client is let into the local server. A user and a password
    come before MLFLOW_TRACKING_TOKEN and before ~/.mlflow/credentials.
    """
    token = read_token(state_folder / MLFLOW_TOKEN)
    return {USER: MLFLOW_USER, PASSWORD: token} if token else {}


def tracking_environment(
    tracking_uri: str, state_folder: Path, environ: Mapping[str, str]
) -> dict[str, str]:
    """How jobs of the cluster reach its MLflow server. Where the environment holds credentials of
    another server, they stay for the jobs that log there, and the local one's are bound to its
    address.
    """
    credentials = mlflow_credentials(state_folder)
    if credentials and any(environ.get(name) for name in (USER, PASSWORD, "MLFLOW_TRACKING_TOKEN")):
        user_and_password = f"{MLFLOW_USER}:{credentials[PASSWORD]}"
        return {"MLFLOW_TRACKING_URI": tracking_uri.replace("://", f"://{user_and_password}@", 1)}
    return {"MLFLOW_TRACKING_URI": tracking_uri} | credentials


def access_to(cluster: LocalCluster, state_folder: Path) -> Access:
    """How a person gets to both servers of a cluster."""
    token = read_token(state_folder / MLFLOW_TOKEN)
    return Access(
        mlflow_link=entry_link(cluster.tracking_uri, token) if token else cluster.tracking_uri,
        environment_file=str(state_folder.resolve() / ENVIRONMENT),
        ray_token_file=cluster.environment.get("RAY_AUTH_TOKEN_PATH", ""),
    )


def write_environment(cluster: LocalCluster, state_folder: Path) -> None:
    """Write the file that a shell reads."""
    variables = (
        cluster.environment
        | {"MLFLOW_TRACKING_URI": cluster.tracking_uri}
        | mlflow_credentials(state_folder)
    )
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    _write_private(state_folder / ENVIRONMENT, "\n".join(lines))


def _write_private(file: Path, text: str) -> None:
    with atomic_file(file) as unfinished:
        unfinished.touch(PRIVATE_FILE)
        unfinished.chmod(PRIVATE_FILE)
        unfinished.write_text(text + "\n", encoding="utf-8")
