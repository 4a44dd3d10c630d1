"""The workers of a slot: one run of Ray Train, and why it ended."""

import math
import os
import uuid
from typing import TYPE_CHECKING, Any

from components.config.cluster import ClusterConfig
from components.errors import UserError
from components.jobs.cluster import NoRoom, no_room
from components.jobs.elastic import most_workers
from components.jobs.events import FailureCause
from components.jobs.job import SlotSettings
from components.jobs.slot_worker import serve
from components.jobs.smaller_batches import is_out_of_memory
from components.training.devices import collective_backend

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.train import ScalingConfig

NO_ROOM = ("WorkerGroupStartupTimeoutError", "InsufficientClusterResourcesError")
STRATEGIES = {"pack": "PACK", "spread": "SPREAD", "one_node": "STRICT_PACK"}
"""`cluster.placement` -> Ray's word for it."""
LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket closed",
    "Connection refused",
    "NCCL error",
)
"""What torch.distributed says on a rank whose neighbour is gone."""


def run_worker_group(settings: SlotSettings, slot: "ActorHandle") -> None:
    """One Ray Train run whose workers serve the slot until it is closed. Raises what ended them."""
    from ray.train import ControllerError, FailureConfig, RunConfig

    from components.jobs.ending_cleanup import EndingTrainer
    from components.jobs.node_link import NodeLinkConfig

    cluster = settings.cluster
    kind = "cuda" if cluster.gpus_per_worker else "cpu"
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(cluster.placement_timeout_seconds)
    trainer = EndingTrainer(
        serve,
        train_loop_config={"settings": settings, "slot": slot},
        scaling_config=scaling(cluster, most=most_workers(cluster)),
        torch_config=NodeLinkConfig(backend=collective_backend(kind)),
        run_config=RunConfig(
            name=f"slot-{uuid.uuid4().hex[:12]}",
            storage_path=str(settings.storage_path / "slots"),
            # The default of the controller's limit asks for the same room for ever; that of
            # preemptions starts other workers, which know nothing of the jobs of these.
            failure_config=FailureConfig(controller_failure_limit=0, max_preemption_failures=0),
        ),
    )
    try:
        trainer.fit()
    except ControllerError as error:
        if type(error.controller_failure).__name__ in NO_ROOM:
            raise NoRoom(no_room(cluster)) from error
        raise


def scaling(cluster: ClusterConfig, *, most: int | None = None) -> "ScalingConfig":
    """What Ray Train asks the cluster for; `most`: workers, where not all have room."""
    from ray.train import ScalingConfig

    gpus = {"GPU": cluster.gpus_per_worker} if cluster.gpus_per_worker else {}
    fewest, most = cluster.fewest_workers, cluster.num_workers if most is None else most
    return ScalingConfig(
        num_workers=most if fewest == most else (fewest, most),
        elastic_resize_monitor_interval_s=math.inf,  # see elastic.py
        use_gpu=cluster.gpus_per_worker > 0,
        resources_per_worker={"CPU": cluster.cpus_per_worker} | gpus,
        placement_strategy=STRATEGIES[cluster.placement],
        accelerator_type=cluster.accelerator_type,
        label_selector=dict(cluster.node_labels) or None,
    )


def failure_of(error: BaseException) -> tuple[str, FailureCause]:
    """Why workers ended, in one line, and what it is to be blamed on. Of several ranks' errors it
    is the one that explains the others: a rank that lost a connection suffered from its neighbour.
    """
    _, cause, root = min(
        ((*_blamed(root), root) for root in _roots(error)), key=lambda blamed: blamed[0]
    )
    lines = str(root).strip().splitlines()
    return f"{type(root).__name__}: {lines[-1] if lines else ''}", cause


def _blamed(root: BaseException) -> tuple[int, FailureCause]:
    """(rank among causes, the cause): the lowest explains the others."""
    from ray.exceptions import RayError

    if isinstance(root, NoRoom):
        return 2, "workers"
    if isinstance(root, UserError):
        return 0, "input"
    if is_out_of_memory(root) and not isinstance(root, RayError):
        return 1, "memory"
    # An OSError is the storage's: full, gone or stale.
    if isinstance(root, RayError | OSError) or type(root).__module__.startswith("ray."):
        return 2, "workers"
    if any(said in str(root) for said in LOST_CONNECTION):
        return 4, "workers"
    return 3, "training"


def _roots(error: BaseException) -> list[BaseException]:
    """The workers' own exceptions under Ray's wrappers."""
    if isinstance(error, UserError):
        return [error]
    inner: Any = getattr(error, "worker_failures", None)
    if inner:
        return [root for each in inner.values() for root in _roots(each)]
    cause = getattr(error, "cause", None) or error.__cause__
    return _roots(cause) if isinstance(cause, BaseException) and cause is not error else [error]
