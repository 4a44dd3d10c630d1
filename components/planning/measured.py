"""What a trial really took, remembered beside the cache, so that the next plan of the same kind of
trial is corrected by it.

The facts a newcomer gets wrong: no time is claimed before one was measured, and it is measured for
these settings alone (backbone, documents, batch, precision, stage, workers), not scaled from
others; and a rate belongs to the machines that share this cache, whatever they are.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from components.atomic_file import read_state, write_state
from components.config.cluster import ClusterConfig
from components.config.experiment import TrainConfig
from components.settings import writing

FOLDER = "measured"


@dataclass(frozen=True)
class Measured:
    """One trial's cost. `memory_bytes`: of the worker that needed most, None where the system does
    not tell; `planned_bytes`: what the estimate said of it; both of the device on GPUs, else of the
    whole process. `train_documents`: of the training split, None in older files.
    """

    trial: str
    steps: int
    seconds: float
    memory_bytes: int | None
    planned_bytes: int
    train_documents: int | None = None

    @property
    def seconds_per_step(self) -> float:
        """Evaluations included, as the trial made them."""
        return self.seconds / self.steps

    @property
    def memory_factor(self) -> float:
        """By which the estimate is corrected."""
        return self.memory_bytes / self.planned_bytes if self.memory_bytes else 1.0


def kind_of(config: TrainConfig, cluster: ClusterConfig, *, trials_per_slot: int = 1) -> str:
    """Hash of what decides a trial's cost; prefix length and learning rate are left out."""
    training = config.training
    values = {
        "backbone": config.backbone.model_dump(mode="json"),
        "method": config.adapter.method,
        "data": config.data.model_dump(mode="json"),
        "training": [
            training.micro_batch_size,
            training.gradient_accumulation_steps,
            training.tokens_per_batch,
            training.precision,
            training.gradient_checkpointing,
            training.evaluations_per_epoch,
            training.evaluation_documents,
            # Only where they are set: what was measured before they came counts on.
            *(each for each in (training.feed_forward_tile_rows,) if each),
            *(["offloaded"] if training.offload_activations else []),
            *([f"{trials_per_slot} side by side"] if trials_per_slot > 1 else []),
        ],
        "zero": config.zero.model_dump(mode="json"),
        "workers": [cluster.num_workers, cluster.cpus_per_worker, cluster.gpus_per_worker],
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def remember(
    measured: Measured, config: TrainConfig, cluster: ClusterConfig, *, trials_per_slot: int = 1
) -> None:
    """Keep it for the next plan, in the place of an earlier one."""
    file = _file(config, cluster, trials_per_slot)
    with writing(file.parent, "cluster.cache_path"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_state(file, asdict(measured))


def remembered(
    config: TrainConfig, cluster: ClusterConfig, *, trials_per_slot: int = 1
) -> Measured | None:
    """What such a trial took; None where none was measured here, or the file is not whole."""
    try:
        return Measured(**read_state(_file(config, cluster, trials_per_slot)))
    except (OSError, ValueError, TypeError):
        return None


def _file(config: TrainConfig, cluster: ClusterConfig, trials_per_slot: int) -> Path:
    kind = kind_of(config, cluster, trials_per_slot=trials_per_slot)
    return Path(cluster.cache_path) / FOLDER / f"{kind}.json"
