"""Trial slots for a workflow's trainings, on the cluster that was joined."""

from pathlib import Path
from typing import TYPE_CHECKING

from components.config import TrainConfig
from components.config.cluster import ClusterConfig
from components.registry import code_version

if TYPE_CHECKING:
    from ray.actor import ActorHandle


def start_trial_slots(
    config: TrainConfig,
    cluster: ClusterConfig,
    *,
    count: int,
    storage: Path,
    experiment: str,
    capacity: int = 1,
) -> "tuple[ActorHandle, ...]":
    """Start `count` slots whose workers load the backbone of `config` while the caller goes on.
    `storage`: the workflow's folder; `experiment`: what metrics and logs call its work; `capacity`:
    trainings at a time in each.
    """
    from components.jobs.job import SlotSettings
    from components.jobs.same_versions import versions
    from components.jobs.slots import start_slots

    settings = SlotSettings(
        config=config,
        cluster=cluster,
        cache_path=Path(cluster.cache_path).resolve(),
        storage_path=storage,
        code_version=code_version(),
        versions=versions(),
        experiment=experiment,
        capacity=capacity,
    )
    return start_slots(settings, count)
