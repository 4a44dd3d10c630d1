"""How many trials of a search a slot could train side by side, as far as memory goes."""

from components.backbones import BackboneShape
from components.config.experiment import TrainConfig
from components.planning.memory import worker_memory
from components.planning.recommend import USABLE
from components.planning.trained_parameters import trainable_parameters
from components.planning.wanted import Wanted

MOST = 64
"""That are advised."""


def side_by_side_advice(
    wanted: Wanted, shape: BackboneShape, num_labels: int, *, room: float | None
) -> list[str]:
    """A line where trials could share a run of the backbone, do not, and at least two would fit.
    `room`: bytes of a worker; None where it is not known.
    """
    waiting = -(-wanted.trials // wanted.slots)
    if wanted.obstacle is not None or wanted.trials_per_slot > 1 or room is None:
        return []
    gpu = wanted.cluster.gpus_per_worker > 0
    allowed, count = (USABLE if gpu else 1.0) * room, 1
    while (
        2 * count <= min(waiting, MOST)
        and _most_bytes(wanted, shape, num_labels, 2 * count) <= allowed
    ):
        count *= 2
    if count == 1:
        return []
    return [
        f"search.trials_per_slot={count} would train {count} trials side by side in each slot: a "
        "batch's text is read once for those at the same step, and there is memory for it."
    ]


def _most_bytes(wanted: Wanted, shape: BackboneShape, num_labels: int, count: int) -> int:
    gpu = wanted.cluster.gpus_per_worker > 0

    def taken(training: TrainConfig) -> int:
        trainable = trainable_parameters(
            shape,
            training.adapter,
            num_labels=num_labels,
            task=training.data.task,
            head_form=training.head.form,
        )
        memory = worker_memory(
            training,
            shape,
            trainable=trainable,
            num_workers=wanted.cluster.num_workers,
            gpu=gpu,
            side_by_side=count,
        )
        return memory.device if gpu else memory.total

    return max(taken(training) for training in wanted.settings)
