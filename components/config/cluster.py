"""Settings of what one trial slot takes from the cluster: the section `cluster`."""

from typing import Annotated

from pydantic import Field

from components.settings import Config, FolderPath, PositiveInt


class ClusterConfig(Config):
    """What one trial slot takes from the cluster."""

    num_workers: Annotated[PositiveInt, Field(le=10_000)] = 1
    """Ray Train workers (ranks) per trial slot."""
    cpus_per_worker: Annotated[float, Field(gt=0.0, le=1e4)] = 1.0
    """CPU cores per worker; also its number of torch threads, rounded down to at least one."""
    gpus_per_worker: Annotated[float, Field(ge=0.0, le=1e4)] = 0.0
    """GPUs per worker."""
    storage_path: FolderPath = ".prefixprop/storage"
    """Folder for checkpoints and results; on more than one node it must be shared storage. `~` and
    `$NAME` are replaced. Relative: below the folder that one works in; in a job on a cluster of
    others, below the home folder.
    """
    cache_path: FolderPath = ".prefixprop/cache"
    """Folder for tokenised data and lengthened backbones; on more than one node it must be shared
    storage. Relative: as storage_path.
    """
    placement_timeout_seconds: Annotated[PositiveInt, Field(le=1_000_000)] = 120
    """A trial slot that cannot be placed within this time ends the search with a clear message."""
    progress_timeout_seconds: PositiveInt = 120
    """Seconds without a word of a worker, or without a micro-batch of any while there is work
    (beyond twice the longest so far), after which a slot's workers count as hanging: their stacks
    are kept, other workers start, and the training goes on from its checkpoint.
    """
