"""Joining the Ray cluster on which slots run."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import ray

from components.config.cluster import ClusterConfig
from components.errors import ClusterError
from components.jobs import INSIDE_A_JOB
from components.planning import check_resources


@contextmanager
def joined_cluster(address: str | None, *, code: Sequence[Path]) -> Iterator[None]:
    """Connect to the cluster at `address` (None or "local": start one for this block) and leave it
    afterwards.

    A submitted job brings its working directory to the workers; otherwise the package folders
    `code` are sent along, so that driver and workers run the same. Raises ClusterError.
    """
    # The dashboard stays on: without it Ray cannot free the placement groups of ended worker
    # groups.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    own = address in (None, "local")
    options = (
        {"address": "local", "include_dashboard": True, "dashboard_host": "127.0.0.1"}
        if own
        else {"address": address}
    )
    sent = {} if INSIDE_A_JOB in os.environ else {"py_modules": [str(folder) for folder in code]}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            **options,
            runtime_env=sent,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"Ray cluster at '{address or 'local'}' cannot be joined: "
            f"{' '.join(str(error).split())} Check RAY_ADDRESS, or run: prefixprop up"
        ) from error
    # ray.init makes SIGTERM end the driver at once; a stopped job shall end its runs and stay
    # resumable, as after Ctrl-C.
    if on_sigterm is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    for name in ("ray.tune", "ray.train", "ray.air"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def check_cluster_fits(cluster: ClusterConfig, *, slots: int) -> None:
    """Raise ConfigError where the connected cluster can never place the slots: they would be waited
    for for ever.
    """
    have = ray.cluster_resources()
    check_resources(cluster, slots=slots, cpus=have.get("CPU", 0.0), gpus=have.get("GPU", 0.0))
