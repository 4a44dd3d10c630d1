"""What a trial slot is asked to do and what it answers; plain values that travel between
processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from components.config.cluster import ClusterConfig
from components.config.experiment import TrainConfig


@dataclass(frozen=True)
class SlotSettings:
    """What all trials of a slot share. Paths are absolute; on more than one node they lie on shared
    storage.
    """

    config: TrainConfig
    cluster: ClusterConfig
    cache_path: str
    storage_path: str
    code_version: str
    code_fingerprint: str


@dataclass(frozen=True)
class Assignment:
    """One thing to do. `train`: a trial, resumed where its folder holds a checkpoint; `finalize`:
    evaluate a trial's best adapter on test data and write its artifact.
    """

    kind: Literal["train", "finalize"]
    config: TrainConfig
    data_folder: str
    trial_folder: str
    artifact_folder: str | None = None


@dataclass(frozen=True)
class Message:
    """One answer. `report`: an evaluation (or an earlier one, replayed from the checkpoint); `end`:
    the assignment is over, with its outcome; `error`: the slot's workers died.
    """

    kind: Literal["report", "end", "error"]
    values: Mapping[str, Any] = field(default_factory=dict)
