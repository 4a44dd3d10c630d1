"""What is to be planned: trainings, and where they shall run."""

from dataclasses import dataclass

from components.config.cluster import ClusterConfig
from components.config.experiment import ExperimentConfig, TrainConfig
from components.config.side_by_side import side_by_side_obstacle
from components.planning.counts import number_of_trials
from components.planning.feasibility import Training, trainings_of


@dataclass(frozen=True)
class Wanted:
    """What is to be planned: trainings that share backbone, data and ZeRO stage, and their place on
    the cluster. `trainings` bound all that will run; `trials`: how many will, at most;
    `grace_evaluations`: before which no trial is stopped, None where none ever is.
    """

    name: str
    trainings: tuple[Training, ...]
    trials: int
    slots: int
    cluster: ClusterConfig
    grace_evaluations: int | None = None
    trials_per_slot: int = 1
    obstacle: str | None = "only trials of a search are"
    """Why none are trained side by side in a slot; None where they can be."""

    @property
    def settings(self) -> tuple[TrainConfig, ...]:
        return tuple(training for _, training in self.trainings)

    @property
    def workers(self) -> int:
        return self.slots * self.cluster.num_workers


def search_wanted(config: ExperimentConfig) -> Wanted:
    """An experiment's search."""
    search = config.search
    return Wanted(
        name=config.name,
        trainings=tuple(trainings_of(config)),
        trials=number_of_trials(config),
        slots=search.concurrent_slots,
        cluster=config.cluster,
        grace_evaluations=search.asha.grace_evaluations
        if search.trial_scheduler == "asha"
        else None,
        trials_per_slot=search.trials_per_slot,
        obstacle=side_by_side_obstacle(config),
    )
