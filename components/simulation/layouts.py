"""How many slots of how many workers: for clusters of growing size the fastest layout, simulated.

A layout is chosen by how many trials go one after the other in a slot and by the seconds of a step
on its ranks; what it takes is then simulated with the search's own decisions.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from components.config import ExperimentConfig, TrainConfig, trial_config
from components.config.steps import evaluation_steps, most_evaluations
from components.planning import trainings_of
from components.planning.capacity import Layout
from components.simulation.course import Course, Courses
from components.simulation.losses import LossRates, drawn_losses
from components.simulation.simulated_search import SlotTimes, simulate
from components.simulation.step_time import StepRate, share_of
from components.tuning.searchers import Point, key_of

DRAWN_BY_THEMSELVES = ("random", "grid")
DRAWS = 8
"""Of losses."""


@dataclass(frozen=True)
class KnownTrials:
    """A search whose trials' times are known. `documents`: of the training split; `trials`: at
    most; `rate`: of a step as configured, as many trials beside it as a slot has; `losses`: of
    workers and nodes; `fits`: whether a slot of so many workers has the memory that it needs.
    """

    config: ExperimentConfig
    documents: int
    trials: int
    rate: StepRate
    times: SlotTimes
    losses: LossRates
    fits: Callable[[int], bool]

    @property
    def trials_per_slot(self) -> int:
        return self.config.search.trials_per_slot

    @property
    def most_slots(self) -> int:
        """More would have no trial."""
        return math.ceil(self.trials / self.trials_per_slot)

    @property
    def configured_workers(self) -> int:
        return self.config.cluster.num_workers

    def longest(self) -> TrainConfig:
        """Settings of the trial of most steps."""
        return max(
            (training for _, training in trainings_of(self.config)),
            key=lambda training: self.steps(training)[-1],
        )

    def steps(self, training: TrainConfig) -> list[int]:
        """Those after which it evaluates: as configured, however many workers a slot has, because
        they share the same documents.
        """
        return evaluation_steps(
            training, num_documents=self.documents, world_size=self.configured_workers
        )

    def trial_seconds(self, training: TrainConfig, workers: int) -> list[float]:
        """Of each of its evaluations, from the one before."""
        share = share_of(training, self.configured_workers)
        seconds = self.rate.step_seconds(share, workers)
        marks = self.steps(training)
        return [seconds * (mark - before) for before, mark in zip([0, *marks], marks, strict=False)]


def growing(known: KnownTrials, rooms: Sequence[int]) -> Iterator[Layout]:
    """The fastest layout of each room (workers that find a place), in their order, up to the one
    beyond which more room changes nothing.
    """
    before = None
    for room in rooms:
        chosen = fastest(known, room)
        if chosen is not None and chosen != before:
            before = chosen
            yield simulated_layout(known, room, *chosen)


def fastest(known: KnownTrials, room: int) -> tuple[int, int] | None:
    """(slots, workers per slot); of equally fast ones that of fewest workers. None where not one
    slot finds room.
    """
    longest = known.longest()
    documents = share_of(longest, known.configured_workers).documents
    sizes = {2**power for power in range(int(math.log2(documents)) + 1)}

    def rank(layout: tuple[int, int]) -> tuple[float, int]:
        slots, workers = layout
        trial = sum(known.trial_seconds(longest, workers)) + known.times.further_trial
        return math.ceil(known.most_slots / slots) * trial, slots * workers

    found = [
        (min(room // workers, known.most_slots), workers)
        for workers in sizes | {known.configured_workers}
        if workers <= room and known.fits(workers)
    ]
    return min(found, key=rank, default=None)


def simulated_layout(known: KnownTrials, room: int, slots: int, workers: int) -> Layout:
    """What the search takes on so many slots of so many workers, the mean of DRAWS where workers
    are lost.
    """
    config = _with_drawn_points(known.config)
    max_evaluations = most_evaluations(
        [training for _, training in trainings_of(config)],
        num_documents=known.documents,
        world_size=known.configured_workers,
    )
    told = [
        simulate(
            config,
            slots=slots,
            courses=assumed_courses(known, workers),
            times=known.times,
            max_evaluations=max_evaluations,
            losses=drawn_losses(
                known.losses,
                slots=slots,
                workers_per_slot=workers,
                workers_per_node=known.rate.network.workers_per_node,
                seed=config.seed + draw,
            ),
        )
        for draw in range(DRAWS if known.losses.any else 1)
    ]
    seconds = mean(each.makespan_seconds for each in told)
    return Layout(
        room,
        slots,
        workers,
        seconds,
        worker_hours=slots * workers * seconds / 3600.0,
        utilisation=mean(each.utilisation for each in told),
    )


def assumed_courses(known: KnownTrials, workers: int) -> Courses:
    """Courses of trials that never ran: each has a place among the others that it keeps from its
    first evaluation to its last, drawn by the seed.
    """
    times: dict[str, tuple[list[int], list[float]]] = {}

    def course(point: Point) -> Course:
        # A thousand points differ in few settings that take time.
        decides = {path: value for path, value in point.items() if path.startswith("training.")}
        if (key := key_of(decides)) not in times:
            training = trial_config(known.config, point)
            times[key] = known.steps(training), known.trial_seconds(training, workers)
        steps, seconds = times[key]
        place = random.Random(f"{known.config.seed} {key_of(point)}").random()
        return Course(tuple(steps), tuple(seconds), (place,) * len(steps))

    return course


def _with_drawn_points(config: ExperimentConfig) -> ExperimentConfig:
    """What a searcher that looks at results would choose is not known before there are any."""
    if config.search.searcher in DRAWN_BY_THEMSELVES:
        return config
    search = config.search.model_copy(update={"searcher": "random"})
    return config.model_copy(update={"search": search})
