"""What the state folder remembers of the local cluster, and what is made of it where a full disk or
a power cut left half of it.

`cluster.json` says what runs; it is written whole or not at all, and read with its types. The fact
a newcomer gets wrong: without it the processes are still found, because their mark names the state
folder (marked_processes.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from components.atomic_file import atomic_file
from components.errors import ClusterError

SERVERS = ("mlflow", "ray")


@dataclass(frozen=True)
class LocalCluster:
    """What runs, and where it listens."""

    ray_address: str
    jobs_address: str
    dashboard_url: str
    tracking_uri: str
    environment: dict[str, str]
    """What a program must have in its environment to connect to this Ray cluster."""
    home: str
    """Folder against which jobs read relative paths."""
    mark: str
    pids: dict[str, int]
    """Process ids of the Ray head and the MLflow server."""


@dataclass(frozen=True)
class LocalAddresses:
    """The part of it that a command needs to connect."""

    ray_address: str
    jobs_address: str
    tracking_uri: str
    environment: dict[str, str]


def read_cluster(state_folder: Path) -> LocalCluster | None:
    """None where no cluster was started. Raises ClusterError for a file that does not say so."""
    cluster: LocalCluster | None = _read(state_folder, LocalCluster)
    if cluster is not None and set(cluster.pids) != set(SERVERS):
        raise _unreadable(state_folder, f"pids of {', '.join(cluster.pids) or 'nothing'}")
    return cluster


def read_addresses(state_folder: Path) -> LocalAddresses | None:
    """None where no cluster was started. Raises ClusterError for a file that does not say so."""
    addresses: LocalAddresses | None = _read(state_folder, LocalAddresses)
    return addresses


def _read(state_folder: Path, kind: Any) -> Any:
    path = state_folder / "cluster.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, Mapping):
            known = {name: content[name] for name in kind.__annotations__ if name in content}
            return TypeAdapter(kind).validate_json(json.dumps(known), strict=True)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        where = ".".join(str(part) for part in first["loc"])
        raise _unreadable(state_folder, f"{where}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise _unreadable(state_folder, str(error)) from error
    raise _unreadable(state_folder, f"it holds {type(content).__name__}")


def _unreadable(state_folder: Path, reason: str) -> ClusterError:
    return ClusterError(
        f"{state_folder / 'cluster.json'} cannot be read ({reason}). Remove it and run: prefixprop "
        "up (what still runs of that cluster is ended then)"
    )


def write_cluster(state_folder: Path, cluster: LocalCluster) -> None:
    with atomic_file(state_folder / "cluster.json") as file:
        file.write_text(json.dumps(asdict(cluster), indent=2) + "\n", encoding="utf-8")


def forget_cluster(state_folder: Path) -> None:
    (state_folder / "cluster.json").unlink(missing_ok=True)


def read_port(file: Path) -> int | None:
    """The port that a file remembers; None where it is not there or holds none."""
    try:
        port = int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return port if 1024 <= port < 65536 else None


def write_port(file: Path, port: int) -> None:
    with atomic_file(file) as unfinished:
        unfinished.write_text(str(port), encoding="ascii")
