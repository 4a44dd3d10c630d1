"""What of the environment a submitted job is given: what it needs and everybody may read. A job's
runtime environment stands on the dashboard, so a secret is named and stays here.

The fact a newcomer gets wrong: packages are not sent along. A job runs with those of the cluster's
nodes, which are installed from constraints.txt, and its workers compare theirs with its driver's.
"""

from collections.abc import Mapping

from components.registry import MLFLOW_USER, check_passed_on, split_credentials
from components.secrets import without_secret_value

STORE = "MLFLOW_TRACKING_URI"
OF_THE_STORE = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
"""What the tracking store would want of a client."""
NEEDED = (
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "PREFIXPROP_DATABASE",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "PGPASSWORD",
    *(f"{what}_proxy" for what in ("http", "https", "all", "no")),
    *(f"{what}_PROXY" for what in ("HTTP", "HTTPS", "ALL", "NO")),
)
"""By which a job finds models, documents and its servers; passed on where they hold no secret."""
BEGINNINGS = ("NCCL_", "TORCH_NCCL_", "GLOO_", "MLFLOW_S3_")
"""Of the names of what decides how ranks and stores are reached."""


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that a job is given. Raises ConfigError where the tracking
    store's address holds a password that cannot be taken out of it.
    """
    variables = {name: environ[name] for name in _needed(environ) if not _is_secret(name, environ)}
    if environ.get(STORE) and not _is_the_clusters_own(environ):
        address, _ = split_credentials(environ[STORE])
        check_passed_on(address)
        variables[STORE] = address
    return variables


def kept_back(environ: Mapping[str, str]) -> list[str]:
    """Names of what the job would want and does not get, because it is secret."""
    found = [name for name in _needed(environ) if _is_secret(name, environ)]
    address = "" if _is_the_clusters_own(environ) else environ.get(STORE) or ""
    _, credentials = split_credentials(address)
    return found + [
        name for name in OF_THE_STORE if address and (name in credentials or environ.get(name))
    ]


def _needed(environ: Mapping[str, str]) -> list[str]:
    return sorted(
        name
        for name, value in environ.items()
        if value and (name in NEEDED or name.startswith(BEGINNINGS))
    )


def _is_secret(name: str, environ: Mapping[str, str]) -> bool:
    value = environ[name]
    return without_secret_value(name, value) != value


def _is_the_clusters_own(environ: Mapping[str, str]) -> bool:
    """Whether the tracking store is the local cluster's MLflow server: its jobs know the address,
    and the credentials with it.
    """
    return environ.get("MLFLOW_TRACKING_USERNAME") == MLFLOW_USER
