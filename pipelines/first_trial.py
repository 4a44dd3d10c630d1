"""The first finished trial of a search beside its plan: what was measured is said and remembered,
and corrects the next plan of such trials.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from components.backbones import backbone_shape, inspect_backbone
from components.config import ExperimentConfig
from components.config.space import trial_config
from components.errors import UserError
from components.planning import Measured, remember, worker_memory
from components.planning.trained_parameters import trainable_parameters

if TYPE_CHECKING:
    from components.jobs.summary import TrialSummary

ENDED = ("completed", "stopped")


class FirstTrial:
    """Told of every change of every trial; speaks once."""

    def __init__(
        self, config: ExperimentConfig, say: Callable[[str], None], *, train_documents: int
    ) -> None:
        self._config, self._say, self._told = config, say, False
        self._train_documents = train_documents

    def update(self, summary: "TrialSummary") -> None:
        """Compares a trial that has ended, the first time there is one."""
        if self._told or summary.outcome not in ENDED or not summary.step or not summary.seconds:
            return
        self._told = True
        measured = measured_of(self._config, summary, train_documents=self._train_documents)
        try:
            remember(
                measured,
                trial_config(self._config, summary.point),
                self._config.cluster,
                trials_per_slot=self._config.search.trials_per_slot,
            )
        except (OSError, UserError) as error:
            self._say(f"what the first trial took is not remembered: {error}")
        self._say(compared(measured))


def measured_of(
    config: ExperimentConfig, summary: "TrialSummary", *, train_documents: int
) -> Measured:
    """What a trial took beside what the plan says of its point."""
    point = trial_config(config, summary.point)
    shape = backbone_shape(inspect_backbone(point.backbone))
    trainable = summary.trainable_parameters or trainable_parameters(
        shape,
        point.adapter,
        num_labels=2,
        task=point.data.task,
        head_form=point.head.form,
    )
    gpu = config.cluster.gpus_per_worker > 0
    planned = worker_memory(
        point,
        shape,
        trainable=trainable,
        num_workers=config.cluster.num_workers,
        gpu=gpu,
        side_by_side=config.search.trials_per_slot,
    )
    return Measured(
        trial=summary.name,
        steps=summary.step,
        seconds=summary.seconds,
        memory_bytes=summary.peak_memory_bytes,
        planned_bytes=planned.device if gpu else planned.total,
        train_documents=train_documents,
    )


def compared(measured: Measured) -> str:
    """One line for a person."""
    time = f"{measured.seconds_per_step:.2f} s per step, evaluations included"
    if measured.memory_bytes is None:
        return f"{measured.trial}: {time}; its memory was not measured"
    return (
        f"{measured.trial}: {time}; {measured.memory_bytes / 2**20:,.0f} MiB per worker where the "
        f"plan said {measured.planned_bytes / 2**20:,.0f} "
        f"({measured.memory_factor - 1:+.0%} of the plan): the next plan takes what was measured"
    )
