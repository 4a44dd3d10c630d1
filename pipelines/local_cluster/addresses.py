"""Where the Ray cluster and the MLflow server are, and whether Ray answers.

The environment comes first (RAY_ADDRESS, MLFLOW_TRACKING_URI), then the local cluster's state file.
The checks speak plain HTTP and TCP, so that a wrong address or token ends in a second or two,
before ray is imported. Whether MLflow answers is its tracker's to say.
"""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.errors import ClusterError
from components.jobs import INSIDE_A_JOB
from components.loopback import is_loopback, opener
from components.registry import MLFLOW_USER, split_credentials
from components.settings import expand_path
from pipelines.local_cluster.access import PASSWORD, USER, mlflow_credentials
from pipelines.local_cluster.state_file import LocalAddresses, read_addresses

STATE_FOLDER = Path(".prefixprop")
HOME = "PREFIXPROP_HOME"
"""Variable by which the local cluster tells a job the folder that its user works in."""
DATABASE = "PREFIXPROP_DATABASE"
"""Variable with the address of the database of leases, records and states: where MLflow is reached
over http, nothing else tells it.
"""
TIMEOUT_SECONDS = 4.0


@dataclass(frozen=True)
class Addresses:
    """What a workflow needs to reach its cluster; None where nothing is known."""

    ray_address: str | None
    """GCS address `host:port` or Ray client address `ray://host:port`."""
    jobs_address: str | None
    """HTTP address of the dashboard, where jobs are submitted."""
    tracking_uri: str | None
    """Without user and password, where it is a server's."""


def find_addresses(environ: Mapping[str, str], *, state_folder: Path = STATE_FOLDER) -> Addresses:
    """Addresses from the environment, else from the local cluster that `prefixprop up` started;
    never one from each for the same cluster.
    """
    local = _local(environ, state_folder)
    ray, jobs = environ.get("RAY_ADDRESS") or None, environ.get("RAY_API_SERVER_ADDRESS") or None
    if ray is not None and ray.startswith(
        ("http://", "https://")
    ):  # the form that `ray job submit` reads
        jobs = jobs or ray
    if local is not None and ray in {None, local.ray_address, local.jobs_address}:
        ray, jobs = local.ray_address, jobs or local.jobs_address
    return Addresses(
        ray_address=ray,
        jobs_address=jobs,
        tracking_uri=split_credentials(environ.get("MLFLOW_TRACKING_URI") or "")[0]
        or (local.tracking_uri if local is not None else None),
    )


def database_address(environ: Mapping[str, str]) -> str | None:
    """The SQL address of what schedulers, retrainings and promotions share, where one is set."""
    return environ.get(DATABASE) or None


def lasting_folder(folder: Path, environ: Mapping[str, str]) -> Path:
    """Where a relative folder of this machine's state lies. In a job on a cluster that `prefixprop
    up` did not start, the working folder is an unpacked upload that goes with the job.
    """
    inside = INSIDE_A_JOB in environ and not environ.get(HOME)
    return Path.home() / folder if inside else folder


def connection_environment(
    addresses: Addresses, environ: Mapping[str, str], *, state_folder: Path = STATE_FOLDER
) -> dict[str, str]:
    """What to add to the environment before ray is imported: how the local cluster is reached, and
    RAY_AUTH_MODE always (Ray's default differs between versions).

    The user's own settings are not overridden, but that user and password of a server's
    MLFLOW_TRACKING_URI are moved to where MLflow looks for them and nobody prints them. The local
    MLflow server gets its own user and password, whatever is set for another one.
    """
    local = _local(environ, state_folder)
    needed: dict[str, str] = {"RAY_AUTH_MODE": "disabled"}
    if local is not None and local.ray_address == addresses.ray_address:
        needed |= local.environment
    added = {name: value for name, value in needed.items() if name not in environ}
    given = environ.get("MLFLOW_TRACKING_URI") or ""
    address, credentials = split_credentials(given)
    if local is not None and addresses.tracking_uri == local.tracking_uri:
        credentials = mlflow_credentials(state_folder)
    elif environ.get(USER) == MLFLOW_USER and _is_elsewhere(addresses.tracking_uri):
        credentials = {USER: "", PASSWORD: ""} | credentials  # not for another machine to see
    return added | credentials | ({"MLFLOW_TRACKING_URI": address} if address != given else {})


def _is_elsewhere(tracking_uri: str | None) -> bool:
    parts = urlsplit(tracking_uri or "")
    return parts.scheme in ("http", "https") and not is_loopback(parts.hostname or "")


def _local(environ: Mapping[str, str], state_folder: Path) -> LocalAddresses | None:
    """What the local cluster's file says; one that cannot be read is passed over where the
    environment names everything.
    """
    try:
        return read_addresses(state_folder)
    except ClusterError:
        if environ.get("RAY_ADDRESS") and environ.get("MLFLOW_TRACKING_URI"):
            return None
        raise


def is_local(addresses: Addresses, *, state_folder: Path = STATE_FOLDER) -> bool:
    """Whether jobs run on the cluster that `prefixprop up` started here, and see this machine's
    folders.
    """
    local = read_addresses(state_folder)
    return local is not None and local.jobs_address == addresses.jobs_address


def check_ray(ray_address: str | None, environ: Mapping[str, str]) -> str:
    """The Ray address, once a cluster has answered there and accepted the token; raises
    ClusterError within seconds otherwise.
    """
    if ray_address is None:
        raise ClusterError(
            "No Ray cluster is known. Run: prefixprop up (a local one), set RAY_ADDRESS=host:port, "
            "or RAY_ADDRESS=local to start one for this command alone."
        )
    if ray_address in {"auto", "local"}:
        return ray_address
    host, port = _host_and_port(ray_address)
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"Ray cluster {ray_address} cannot be reached ({_reason(error)}). Start it (prefixprop "
            "up) or correct RAY_ADDRESS."
        ) from error
    if "://" not in ray_address:
        _check_gcs(ray_address, environ)
    return ray_address


def _check_gcs(ray_address: str, environ: Mapping[str, str]) -> None:
    """Ask the cluster's control service whether it lives and wants a token. ray itself would try a
    wrong one for 20 seconds, and with one that nobody wants lose its actors without a reason.
    """
    token = auth_headers(environ).get("Authorization")
    if not _accepts(ray_address, token):
        raise ClusterError(_refused(f"Ray cluster {ray_address}"))
    if environ.get("RAY_AUTH_MODE") == "token" and _accepts(ray_address, None):
        raise ClusterError(
            f"Ray cluster {ray_address} runs without tokens, and RAY_AUTH_MODE=token asks for "
            "them. Unset RAY_AUTH_MODE, or start the cluster with it."
        )


def _accepts(ray_address: str, token: str | None) -> bool:
    """Whether the control service answers a caller with this token. Raises ClusterError where none
    answers.
    """
    import grpc

    # Ray itself asks no proxy either.
    with grpc.insecure_channel(ray_address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            call = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
            call(
                b"", timeout=TIMEOUT_SECONDS, metadata=[("authorization", token)] if token else None
            )
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise ClusterError(
                f"{ray_address} takes connections but is no Ray cluster that answers "
                f"({error.code().name.lower()}). Correct RAY_ADDRESS: it is the port of the head, "
                "usually 6379."
            ) from error
    return True


def _refused(what: str) -> str:
    return (
        f"{what} refuses the token. Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or "
        "RAY_AUTH_TOKEN_PATH) to the cluster's own; for the local cluster unset them."
    )


def check_jobs(jobs_address: str | None, environ: Mapping[str, str]) -> str:
    """The job server's address, once it has answered and accepted the token; raises ClusterError
    within seconds otherwise.
    """
    if jobs_address is None:
        raise ClusterError(
            "No Ray job server is known. Run: prefixprop up (a local one), or set "
            "RAY_ADDRESS=http://host:8265."
        )
    headers = auth_headers(environ)
    url = f"{jobs_address.rstrip('/')}/api/version"
    status = _get(
        url,
        what=f"Ray job server {jobs_address}",
        fix="Start it (prefixprop up) or correct RAY_ADDRESS.",
        headers=headers,
    )
    if status == 200:
        status = _get(
            f"{jobs_address.rstrip('/')}/api/jobs/",
            what=f"Ray job server {jobs_address}",
            fix="Look into the cluster's logs.",
            headers=headers,
        )
    if status in {401, 403}:
        raise ClusterError(_refused(f"Ray job server {jobs_address}"))
    if status != 200:
        raise ClusterError(
            f"{jobs_address} answers HTTP {status} and is no Ray job server. Correct RAY_ADDRESS."
        )
    return jobs_address


def cluster_nodes(jobs_address: str, environ: Mapping[str, str]) -> tuple[dict[str, Any], ...]:
    """The live nodes of a cluster as its dashboard tells them, with `resources_total`; empty where
    it does not answer.
    """
    request = urllib.request.Request(
        f"{jobs_address.rstrip('/')}/api/v0/nodes?detail=1&limit=1000",
        headers=auth_headers(environ),
    )
    try:
        with opener(jobs_address).open(request, timeout=TIMEOUT_SECONDS) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(node for node in nodes if node.get("state") == "ALIVE")


def node_summaries(jobs_address: str, environ: Mapping[str, str]) -> tuple[dict[str, Any], ...]:
    """What the nodes' agents report, `gpus` with `name` and `memoryTotal` (MiB) among it; empty
    where the dashboard does not say.
    """
    request = urllib.request.Request(
        f"{jobs_address.rstrip('/')}/nodes?view=summary", headers=auth_headers(environ)
    )
    try:
        with opener(jobs_address).open(request, timeout=TIMEOUT_SECONDS) as answer:
            summaries = json.load(answer)["data"]["summary"]
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    return tuple(each for each in summaries if isinstance(each, dict))


def ray_versions(there: str | None) -> str:
    """In one line: Ray here and on the cluster (`there`; None: it does not say), with the fix where
    they differ.
    """
    from importlib.metadata import version

    here = version("ray")
    if there in (None, here):
        return f"Ray {here} here{' and on the cluster' if there else ''}"
    return (
        f"Ray {here} here and {there} on the cluster: they must be the same (pip install "
        f"ray=={there}, or an image with {here})"
    )


def cluster_ray(jobs_address: str, environ: Mapping[str, str]) -> str | None:
    """The version of Ray that a job server runs; None where it does not say."""
    request = urllib.request.Request(
        f"{jobs_address.rstrip('/')}/api/version", headers=auth_headers(environ)
    )
    try:
        with opener(jobs_address).open(request, timeout=TIMEOUT_SECONDS) as answer:
            return str(json.load(answer)["ray_version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def auth_headers(environ: Mapping[str, str]) -> dict[str, str]:
    """Headers that a Ray cluster wants: the token, where RAY_AUTH_MODE is `token`. Raises
    ClusterError where the token is none that a header can hold.
    """
    if environ.get("RAY_AUTH_MODE") != "token":
        return {}
    token = (environ.get("RAY_AUTH_TOKEN") or "").strip() or _token_file(environ)
    if not (token.isascii() and token.isprintable()):
        raise ClusterError(
            "The Ray token holds characters that no token has. Set RAY_AUTH_TOKEN (or the file of "
            "RAY_AUTH_TOKEN_PATH) to the cluster's own."
        )
    return {"Authorization": f"Bearer {token}"} if token else {}


def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port or (10001 if "://" in address else None)
    except ValueError:
        host, port = None, None
    if parts.scheme != "ray" or not host or not port:
        raise ClusterError(
            f"RAY_ADDRESS '{address}' is not of the form host:port or ray://host:port."
        )
    return host, port


def _get(url: str, *, what: str, fix: str, headers: Mapping[str, str]) -> int:
    """HTTP status of a GET; raises ClusterError where no HTTP answer comes."""
    try:
        request = urllib.request.Request(url, headers=dict(headers))
        with opener(url).open(request, timeout=TIMEOUT_SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError) as error:
        raise ClusterError(f"{what} cannot be reached ({_reason(error)}). {fix}") from error


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:.0f} s"
    return getattr(cause, "strerror", None) or str(cause)


def _token_file(environ: Mapping[str, str]) -> str:
    """What stands in the token file; nothing where it is not there."""
    given = environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(expand_path(given)) if given else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(
            f"The token file '{path}' cannot be read ({type(error).__name__}). Write the cluster's "
            "token into it, or set RAY_AUTH_TOKEN."
        ) from error
