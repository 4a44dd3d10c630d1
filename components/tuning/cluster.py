"""Joining the Ray cluster on which a search runs."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from components.errors import ClusterError
from components.tuning import INSIDE_A_JOB

PACKAGES = Path(__file__).resolve().parents[2]


@contextmanager
def joined_cluster(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address` (None or "local": start one for this block) and leave it
    afterwards.

    A submitted job brings its working directory to the workers; otherwise this code is sent along,
    so that driver and workers run the same. Raises ClusterError.
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
    code = (
        {}
        if INSIDE_A_JOB in os.environ
        else {"py_modules": [str(PACKAGES / "components"), str(PACKAGES / "pipelines")]}
    )
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            **options,
            runtime_env=code,
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
