"""What is asked of workers, and what all jobs of a slot share; plain values that travel between
processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from components.config.cluster import ClusterConfig
from components.config.experiment import TrainConfig
from components.config.training import TrainingConfig


@dataclass(frozen=True)
class Job:
    """Train an adapter, or evaluate the best one of its checkpoint on test documents, or both, one
    after the other.

    `id`: the caller's name for it, which every event carries; `folder`: where checkpoint/ lies; a
    training goes on from it. `artifact_folder`: where the evaluated adapter goes; `training`: the
    settings of this section with steps cut smaller than `config` has them, for want of memory. All
    paths are absolute; on more than one node they lie on shared storage.
    """

    id: str
    config: TrainConfig
    data_folder: Path
    folder: Path
    train: bool = True
    evaluate: bool = False
    artifact_folder: Path | None = None
    training: TrainingConfig | None = None

    @property
    def cut(self) -> TrainConfig:
        """The settings as they are carried out."""
        if self.training is None:
            return self.config
        return self.config.model_copy(update={"training": self.training})

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def artifact(self) -> Path:
        return self.artifact_folder or self.folder / "adapter"


@dataclass(frozen=True)
class Assignment:
    """A job given to workers once. A job that is repeated is another assignment: what an earlier
    one still tells is not taken for this one's.
    """

    job: Job
    id: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True)
class SlotSettings:
    """What all jobs of a slot share. `config`: what decides the loaded backbone; `versions`: the
    driver's, which its workers must have (same_versions.py); `capacity`: jobs that the slot's
    workers carry out at the same time; `experiment`: whose they are, for metrics and logs. Paths
    are absolute; on more than one node they lie on shared storage.
    """

    config: TrainConfig
    cluster: ClusterConfig
    cache_path: Path
    storage_path: Path
    code_version: str
    versions: Mapping[str, str]
    capacity: int = 1
    experiment: str = ""
