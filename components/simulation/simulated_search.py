"""A search on modelled slots in simulated time: which trial runs where and when, and what it takes.

What is modelled are times and losses of workers. What is decided is decided by the program itself:
points by its searcher, ends by its trial scheduler (components/tuning/decisions.py), repetitions by
its budget (components/jobs/repetition.py). Slots do here what components/jobs/slots.py does: a job
goes to the first of the slots with fewest jobs, one that is coming back included.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from components.config import ExperimentConfig
from components.jobs.events import Evaluated, Failed, Trained
from components.jobs.repetition import Attempts
from components.simulation.clock import Clock
from components.simulation.course import Course, Courses
from components.simulation.losses import Loss
from components.training.outcomes import Progress, Report
from components.tuning.decisions import Decisions
from components.tuning.searchers import Point


@dataclass(frozen=True)
class SlotTimes:
    """What slots take beside training, in seconds. `start`: until the first trial of a search makes
    its first step (processes, imports, backbone, Tune); `further_trial`: from the last evaluation
    of a trial to the first step of the next; `restart`: from the loss of workers to the first step
    that others repeat.
    """

    start: float
    further_trial: float
    restart: float


@dataclass(frozen=True)
class SimulatedTrial:
    """`started`: when its first step began, or its end where none was evaluated; `ended`: when it
    was over; both in seconds since the start of the search. `losses`: how often it lost its
    workers.
    """

    name: str
    point: Point
    outcome: str
    evaluations: int
    slot: int
    started: float
    ended: float
    losses: int


@dataclass(frozen=True)
class Simulated:
    """A search that is over. `training_seconds`: of all places of slots together, in steps and
    evaluations that count: what was lost and repeated counts once.
    """

    trials: tuple[SimulatedTrial, ...]
    slots: int
    training_seconds: float
    trials_per_slot: int = 1

    @property
    def makespan_seconds(self) -> float:
        """From the start of its slots to the end of its last trial."""
        return max((trial.ended for trial in self.trials), default=0.0)

    @property
    def utilisation(self) -> float:
        """Share of the time of the slots' places in which they trained, from 0 to 1."""
        held = self.slots * self.trials_per_slot * self.makespan_seconds
        return self.training_seconds / held if held else 0.0


def simulate(
    config: ExperimentConfig,
    *,
    slots: int,
    courses: Courses,
    times: SlotTimes,
    max_evaluations: int,
    losses: Iterable[Loss] = (),
) -> Simulated:
    """Run a search of `slots` slots in simulated time, each with search.trials_per_slot places: the
    times of `courses` are those with all places of a slot taken. `max_evaluations`: of its longest
    trial, as in run_search.py; `losses`: in order of their times. The same arguments give the same
    result.
    """
    search = _Search(
        config,
        slots=slots,
        courses=courses,
        times=times,
        max_evaluations=max_evaluations,
        losses=losses,
    )
    return search.run()


@dataclass
class _Place:
    """One of a slot's."""

    slot: int
    ready: float
    """From when on the slot's workers can train here."""
    trial: "_Trial | None" = None


@dataclass
class _Trial:
    name: str
    point: Point
    course: Course
    attempts: Attempts
    place: int = 0
    evaluations: int = 0
    best: float | None = None
    tries: int = 0
    """How often it was placed: what an earlier try would have done does not happen."""
    started: float | None = None
    losses: int = 0


class _Search:
    def __init__(
        self,
        config: ExperimentConfig,
        *,
        slots: int,
        courses: Courses,
        times: SlotTimes,
        max_evaluations: int,
        losses: Iterable[Loss],
    ) -> None:
        self.config, self.courses, self.times = config, courses, times
        self.decisions = Decisions(config, max_evaluations=max_evaluations)
        self.clock = Clock()
        self.slots, self.beside = slots, config.search.trials_per_slot
        self.places = [
            _Place(slot, ready=times.start) for slot in range(slots) for _ in range(self.beside)
        ]
        self.running: dict[str, _Trial] = {}
        self.ended: dict[str, SimulatedTrial] = {}
        self.training_seconds = 0.0
        self.losses = iter(losses)

    def run(self) -> Simulated:
        self._fill()
        self._await_loss()
        while self.running:
            self.clock.advance()
        trials = tuple(self.ended[name] for name in self.decisions.results)
        return Simulated(trials, self.slots, self.training_seconds, self.beside)

    def _fill(self) -> None:
        """Ask for trials while there is room."""
        while len(self.running) < len(self.places) and (asked := self.decisions.ask()) is not None:
            name, point = asked
            attempts = Attempts(self.config.search.max_failures)
            trial = _Trial(name, point, self.courses(point), attempts)
            self.running[name] = trial
            self._place(trial)

    def _place(self, trial: _Trial) -> None:
        """Give it to the first of the slots with fewest trials, from its last checkpoint on."""
        taken = Counter(place.slot for place in self.places if place.trial is not None)
        free = [number for number, place in enumerate(self.places) if place.trial is None]
        trial.place = min(free, key=lambda number: (taken[self.places[number].slot], number))
        place = self.places[trial.place]
        place.trial = trial
        trial.tries += 1
        self._train_on(trial, since=max(self.clock.now, place.ready))

    def _train_on(self, trial: _Trial, *, since: float) -> None:
        """Train until the next evaluation."""
        tries, seconds = trial.tries, trial.course.seconds[trial.evaluations]

        def evaluated() -> None:
            if trial.tries == tries:
                trial.started = since if trial.started is None else trial.started
                self.training_seconds += seconds
                self._evaluated(trial)

        self.clock.at(since + seconds, evaluated)

    def _evaluated(self, trial: _Trial) -> None:
        trial.evaluations += 1
        event = self._evaluation(trial)
        trial.attempts.saw(event)
        if not self.decisions.tell(trial.name, event):
            self._train_on(trial, since=self.clock.now)
            return
        ready = self.clock.now + self.times.further_trial
        if event.report.done:
            told = Trained(trial.name, "completed", "all steps done", Progress(), 0, None)
            self.decisions.tell(trial.name, told)
        else:
            # It has trained ahead while this was decided, and ends after its present step.
            ready += trial.course.step_seconds(trial.evaluations + 1)
        self.places[trial.place].ready = ready
        self._end(trial)

    def _evaluation(self, trial: _Trial) -> Evaluated:
        value = trial.course.values[trial.evaluations - 1]
        sign = 1.0 if self.config.training.mode == "max" else -1.0
        is_best = trial.best is None or sign * value > sign * trial.best
        trial.best = value if is_best else trial.best
        report = Report(
            evaluation=trial.evaluations,
            step=trial.course.steps[trial.evaluations - 1],
            metrics={self.config.training.metric: value},
            is_best=is_best,
            done=trial.evaluations == len(trial.course.steps),
            trainable_parameters=0,
        )
        return Evaluated(trial.name, report)

    def _end(self, trial: _Trial) -> None:
        self.places[trial.place].trial = None
        trial.tries += 1
        del self.running[trial.name]
        self.ended[trial.name] = SimulatedTrial(
            trial.name,
            trial.point,
            self.decisions.end(trial.name),
            trial.evaluations,
            self.places[trial.place].slot,
            self.clock.now if trial.started is None else trial.started,
            self.clock.now,
            trial.losses,
        )
        self._fill()

    def _await_loss(self) -> None:
        loss = next(self.losses, None)
        if loss is not None:
            self.clock.at(loss.seconds, lambda: self._lose(loss))

    def _lose(self, loss: Loss) -> None:
        hit = [place for place in self.places if place.slot in loss.slots]
        back = self.clock.now + loss.away_seconds + self.times.restart
        for place in hit:
            place.ready = max(place.ready, back)
        for trial in [place.trial for place in hit if place.trial is not None]:
            self._failed(trial)
        self._await_loss()

    def _failed(self, trial: _Trial) -> None:
        """Its workers are gone: repeated from its checkpoint, or given up."""
        failed = Failed(trial.name, "the workers were lost", "workers")
        trial.losses += 1
        if trial.attempts.another(failed):
            self.places[trial.place].trial = None
            self._place(trial)
        else:
            self.decisions.tell(trial.name, failed)
            self._end(trial)
