"""Settings of what one trial slot takes from the cluster: the section `cluster`."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.settings import Config, FolderPath, PositiveInt

LabelName = Annotated[
    str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$")
]
LabelValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$")]


class ClusterConfig(Config):
    """What one trial slot takes from the cluster."""

    num_workers: Annotated[PositiveInt, Field(le=10_000)] = 1
    """Ray Train workers (ranks) per trial slot."""
    min_workers: PositiveInt | None = None
    """Fewest workers with which a trial slot goes on where nodes are taken away; as many as there
    is room for come back later. A step keeps its documents, those of num_workers; at zero.stage 3
    fewer hold larger shards, which `plan` counts for num_workers. Null: as many as num_workers.
    """
    cpus_per_worker: Annotated[float, Field(gt=0.0, le=1e4)] = 1.0
    """CPU cores per worker; also its number of torch threads, rounded down to at least one."""
    gpus_per_worker: Annotated[float, Field(ge=0.0, le=1e4)] = 0.0
    """GPUs per worker: 0, the worker computes on the CPU, whatever it sees; 1, on a GPU of its own;
    less, slots of one worker each share a GPU.
    """
    placement: Literal["pack", "spread", "one_node"] = "pack"
    """Where a slot's workers go: `pack`, on as few nodes as there is room on; `spread`, over as
    many; `one_node`, all on one node, or the slot waits. It changes no number: ranks that share a
    node exchange gradients without the network, ranks that are spread have a node's memory each.
    """
    accelerator_type: str | None = None
    """Kind of GPU that workers need, by Ray's name for it ("H100"); None: any."""
    node_labels: dict[LabelName, LabelValue] = Field(default_factory=dict)
    """Labels that a node must have to get workers, each with exactly this value (`ray start
    --labels zone=a`; Ray itself gives `ray.io/accelerator-type` and others).
    """
    storage_path: FolderPath = ".prefixprop/storage"
    """Folder for checkpoints and results; on more than one node it must be shared storage. `~` and
    `$NAME` are replaced. Relative: below the folder that one works in; in a job on a cluster of
    others, below the home folder.
    """
    cache_path: FolderPath = ".prefixprop/cache"
    """Folder for tokenised data and lengthened backbones; on more than one node it must be shared
    storage, unless `cache` says otherwise. Relative: as storage_path.
    """
    cache: Literal["shared", "per_node"] = "shared"
    """`per_node`: cache_path is a folder of each node's own (a local disk), where one of its
    workers prepares what is missing. The documents' files must be the same on all nodes, with the
    same times.
    """
    placement_timeout_seconds: Annotated[PositiveInt, Field(le=1_000_000)] = 120
    """A trial slot that cannot be placed within this time ends the search with a clear message."""
    progress_timeout_seconds: PositiveInt = 120
    """Seconds without a word of a worker, or without a micro-batch of any while there is work
    (beyond twice the longest so far), after which a slot's workers count as hanging: their stacks
    are kept, other workers start, and the training goes on from its checkpoint.
    """

    @property
    def fewest_workers(self) -> int:
        return self.num_workers if self.min_workers is None else self.min_workers

    @model_validator(mode="after")
    def _fewest_are_no_more(self) -> "ClusterConfig":
        if self.fewest_workers > self.num_workers:
            raise ValueError(
                f"min_workers {self.min_workers} is more than num_workers {self.num_workers}; "
                "lower it, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _one_gpu_a_rank(self) -> "ClusterConfig":
        gpus = self.gpus_per_worker
        if gpus > 1:
            raise ValueError(
                f"gpus_per_worker {gpus:g}: a worker computes on one GPU; set gpus_per_worker to 1 "
                f"and num_workers to {math.ceil(self.num_workers * gpus)}"
            )
        if 0 < gpus < 1 and self.num_workers > 1:
            raise ValueError(
                f"gpus_per_worker {gpus:g} would put several of {self.num_workers} workers on one "
                "GPU, which NCCL refuses; set num_workers to 1, or gpus_per_worker to 1"
            )
        if self.accelerator_type is not None and not gpus:
            raise ValueError(
                f"accelerator_type '{self.accelerator_type}' with gpus_per_worker 0: the workers "
                "would compute on the CPUs of those nodes; set gpus_per_worker to 1, or leave "
                "accelerator_type out"
            )
        return self
