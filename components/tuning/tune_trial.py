"""The thin side of a trial that Ray Tune sees: it gives its trial to a slot and passes on what is
told of it.

Training runs ahead in the slot: a report costs it no waiting, and a decision of the trial scheduler
reaches it between two steps.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from components.config import ExperimentConfig
from components.jobs.events import Evaluated, Event, Failed, Left, Reused, Trained
from components.jobs.job import Job
from components.jobs.record import Identity
from components.jobs.repetition import Attempts
from components.jobs.resume import reuse
from components.jobs.slots import RaySlots
from components.jobs.smaller_batches import fitting, infeasible, smaller
from components.jobs.trial import Trial
from components.tuning.asking import EVENTS, TRIAL

if TYPE_CHECKING:
    from ray.actor import ActorHandle


@dataclass(frozen=True)
class SearchContext:
    """What every trial of a search needs besides itself: the experiment, its slots, its prepared
    data and its folder.
    """

    config: ExperimentConfig
    slots: "tuple[ActorHandle, ...]"
    data_folder: Path
    data_fingerprint: str
    code_fingerprint: str
    folder: Path

    def identity(self, trial: Trial) -> Identity:
        """What makes another training the same as this trial."""
        return Identity(
            config_sha256=trial.sha256,
            train_batch_size=trial.config.training.batch_size(self.config.cluster.num_workers),
            data_fingerprint=self.data_fingerprint,
            code_fingerprint=self.code_fingerprint,
        )

    def workers(self) -> RaySlots:
        """The search's slots as workers."""
        timeout_seconds = float(self.config.cluster.placement_timeout_seconds)
        return RaySlots(self.slots, timeout_seconds=timeout_seconds)


class TuneTrial(tune.Trainable):
    """One trial after the other in one Tune actor (reuse_actors), each on any slot with room."""

    def setup(self, config: dict[str, Any], context: SearchContext | None = None) -> None:
        assert context is not None
        self.context, self.workers = context, context.workers()
        self._begin(config[TRIAL])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.workers.drop(self.job.id)
        self._begin(new_config[TRIAL])
        return True

    def _begin(self, trial: Trial) -> None:
        """The trial is this actor's from its first `step`. Under load Tune makes an actor and then
        gives its trial to another that came free: this one must not have touched its folder.
        """
        self.trial, self.is_started = trial, False
        self.job = Job(trial.key, trial.config, self.context.data_folder, trial.folder)
        self.events: deque[Event] = deque()
        training = trial.config.training
        self.metric = training.metric
        # What a trial shows that ended before its first evaluation: it never looks good.
        self.value = float("-inf") if training.mode == "max" else float("inf")
        self.evaluations = 0
        self.attempts = Attempts(self.context.config.search.max_failures)

    def _start(self) -> None:
        self.is_started = True
        if self.context.config.search.reuse_trials:
            earlier = reuse(self.trial.folder, self.context.identity(self.trial))
            if earlier is not None:
                self.events.append(Reused(self.job.id, earlier.run_id))
        self.job = fitting(self.job)
        self.workers.start(self.job)

    def step(self) -> dict[str, Any]:
        """The next evaluation of the running trial; with its last one comes how it ended. A job
        that failed is repeated here, because Tune knows one budget for all kinds of failures; one
        that left its place is given again.
        """
        if not self.is_started:
            self._start()
        told: list[Event] = []
        while True:
            event: Event | None = self._next_event()
            assert event is not None
            self.attempts.saw(event)
            if isinstance(event, Failed) and event.cause == "memory":
                event = self._smaller(event)
            elif isinstance(event, Left) or (
                isinstance(event, Failed) and self.attempts.another(event)
            ):
                event = None
            if event is None:
                self.workers.start(self.job)
                continue
            told.append(event)
            match event:
                case Evaluated(report=report) if not report.done:
                    return self._result(told, done=False)
                case Trained() | Failed():
                    return self._result(told, done=True)

    def _smaller(self, failed: Failed) -> Failed | None:
        """Cut the job's steps smaller; the failure where they cannot be."""
        cut = smaller(self.job)
        if cut is None:
            return infeasible(failed)
        self.job = cut
        return None

    def _result(self, told: list[Event], *, done: bool) -> dict[str, Any]:
        """What Tune decides by (the metric and the number of evaluations), and the events for the
        driver.
        """
        for event in told:
            if isinstance(event, Evaluated):
                self.evaluations = event.report.evaluation
                self.value = event.report.metrics[self.metric]
        return {
            self.metric: self.value,
            "evaluation": self.evaluations,
            EVENTS: tuple(told),
            "done": done,
        }

    def _next_event(self) -> Event:
        while not self.events:
            self.workers.deliver(self.events.append)
        return self.events.popleft()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing for Tune to keep: the slot writes checkpoints itself, and a repeated trial finds
        them by its configuration.
        """

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See save_checkpoint."""

    def cleanup(self) -> None:
        self.workers.drop(self.job.id)
