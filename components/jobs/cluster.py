"""Joining the Ray cluster on which slots run."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from components.config.cluster import ClusterConfig
from components.errors import ClusterError
from components.jobs import INSIDE_A_JOB
from components.planning import check_placement, check_resources, node_of


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
    options: dict[str, Any] = (
        {"address": "local", "include_dashboard": True, "dashboard_host": "127.0.0.1"}
        if own
        else {"address": address}
    )
    sent = {} if INSIDE_A_JOB in os.environ else {"py_modules": [str(folder) for folder in code]}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    _connect(address, options, runtime_env=sent)
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


def _connect(address: str | None, options: dict[str, Any], *, runtime_env: dict[str, Any]) -> None:
    where = f"Ray cluster at '{address or 'local'}'"
    try:
        ray.init(
            **options,
            runtime_env=runtime_env,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"{where} cannot be joined: {' '.join(str(error).split())} Check RAY_ADDRESS, or run: "
            "prefixprop up"
        ) from error
    except Exception as error:
        # Ray has no class of its own for this, and no setting for its 30 seconds.
        if "timed out during startup" not in str(error):
            raise
        raise ClusterError(
            f"{where} did not start within 30 seconds: this machine is too busy. Run the same "
            "command again, or start a cluster first and keep it: prefixprop up"
        ) from error


class NoRoom(ClusterError):
    """Workers could not be placed. Not the user's settings alone are to blame: what else runs on
    the cluster may end.
    """


def no_room(cluster: ClusterConfig) -> str:
    """What to say of workers that could not be placed in time."""
    return (
        "The workers of a trial slot could not be started within "
        f"cluster.placement_timeout_seconds ({cluster.placement_timeout_seconds} s): the "
        "cluster has no room for "
        f"{cluster.fewest_workers} worker(s) of {cluster.cpus_per_worker:g} CPU and "
        f"{cluster.gpus_per_worker:g} GPU{_where(cluster)} beside what runs there. "
        "Wait for it to end, lower search.concurrent_slots or cluster.num_workers, or raise "
        "the time."
    )


def _where(cluster: ClusterConfig) -> str:
    """Where the settings allow workers to be, where that is not everywhere."""
    said = []
    if cluster.placement == "one_node":
        said.append(" each slot on one node (cluster.placement)")
    if cluster.accelerator_type:
        said.append(f" on nodes with {cluster.accelerator_type} (cluster.accelerator_type)")
    if cluster.node_labels:
        labels = ",".join(f"{name}={value}" for name, value in cluster.node_labels.items())
        said.append(f" on nodes labelled {labels} (cluster.node_labels)")
    return ",".join(said)


def lacks_room(cluster: ClusterConfig, *, slots: int) -> bool:
    """Whether the connected cluster has no room now for those of the `slots` that this driver has
    not placed yet. Processes that take long to start need no more room than they were given.
    """
    placed: int = sum(
        group["state"] == "CREATED" and _is_a_slots(group)
        for group in ray.util.placement_group_table().values()
    )
    workers = max(0, slots - placed) * cluster.fewest_workers
    free = ray.available_resources()
    wanted = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker}
    return any(workers * each > float(free.get(name, 0.0)) for name, each in wanted.items())


def _is_a_slots(group: Mapping[str, Any]) -> bool:
    """Whether this driver's workers are in a placement group: its id ends in that of the job that
    made it, and Tune's own groups hold no CPU.
    """
    job_id: str = ray.get_runtime_context().get_job_id()
    holds = any({"CPU", "GPU"} & set(bundle) for bundle in group["bundles"].values())
    return holds and str(group["placement_group_id"]).endswith(job_id)


def check_cluster_fits(cluster: ClusterConfig, *, slots: int) -> None:
    """Raise ConfigError where the connected cluster can never place the slots: they would be waited
    for for ever.
    """
    have = ray.cluster_resources()
    check_resources(cluster, slots=slots, cpus=have.get("CPU", 0.0), gpus=have.get("GPU", 0.0))
    nodes = [
        node_of(node["NodeManagerAddress"], node["Resources"], node["Labels"])
        for node in ray.nodes()
        if node["Alive"]
    ]
    check_placement(cluster, slots=slots, nodes=nodes)
