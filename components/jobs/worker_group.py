"""The workers of a slot: one run of Ray Train, and why it ended."""

import os
import uuid
from typing import TYPE_CHECKING, Any

from components.errors import ClusterError, UserError
from components.jobs.events import FailureCause
from components.jobs.job import SlotSettings
from components.jobs.slot_worker import serve

if TYPE_CHECKING:
    from ray.actor import ActorHandle


def run_worker_group(settings: SlotSettings, slot: "ActorHandle") -> None:
    """One Ray Train run whose workers serve the slot until it is closed. Raises what ended them."""
    from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cluster = settings.cluster
    resources = {"CPU": cluster.cpus_per_worker} | (
        {"GPU": cluster.gpus_per_worker} if cluster.gpus_per_worker else {}
    )
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(cluster.placement_timeout_seconds)
    trainer = TorchTrainer(
        serve,
        train_loop_config={"settings": settings, "slot": slot},
        scaling_config=ScalingConfig(
            num_workers=cluster.num_workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(backend="nccl" if cluster.gpus_per_worker else "gloo"),
        run_config=RunConfig(
            name=f"slot-{uuid.uuid4().hex[:12]}",
            storage_path=str(settings.storage_path / "slots"),
            # The default of the controller's limit asks for the same room for ever.
            failure_config=FailureConfig(controller_failure_limit=0),
        ),
    )
    try:
        trainer.fit()
    except ControllerError as error:
        raise ClusterError(
            "The workers of a trial slot could not be started within "
            f"cluster.placement_timeout_seconds ({cluster.placement_timeout_seconds} s): the "
            "cluster has no room for "
            f"{cluster.num_workers} worker(s) of {cluster.cpus_per_worker:g} CPU and "
            f"{cluster.gpus_per_worker:g} GPU beside what runs there. "
            "Wait for it to end, lower search.concurrent_slots or cluster.num_workers, or raise "
            f"the time. ({type(error.controller_failure).__name__})"
        ) from error


def failure_of(error: BaseException) -> tuple[str, FailureCause]:
    """Why workers ended, in one line, and what it is to be blamed on."""
    from ray.exceptions import RayError

    root = _root(error)
    lines = str(root).strip().splitlines()
    cause: FailureCause = "training"
    if isinstance(root, UserError):
        cause = "input"
    elif isinstance(root, RayError) or type(root).__module__.startswith("ray."):
        cause = "workers"
    return f"{type(root).__name__}: {lines[-1] if lines else ''}", cause


def _root(error: BaseException) -> BaseException:
    """The worker's own exception under Ray's wrappers."""
    if isinstance(error, UserError):
        return error
    inner: Any = getattr(error, "worker_failures", None)
    if inner:
        return _root(next(iter(inner.values())))
    cause = getattr(error, "cause", None) or error.__cause__
    return _root(cause) if isinstance(cause, BaseException) and cause is not error else error
