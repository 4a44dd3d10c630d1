"""How often a job that ended with an error is repeated, and what it is called when it is given up:
one rule for the driver's loop and for Tune's trials.

Lost workers say nothing about a training, so they have a budget of their own, which every further
evaluation fills up again: a training that comes along is never given up for its surroundings.
"""

from dataclasses import dataclass

from components.jobs.events import Evaluated, Event, Failed, FailureCause, Trained

LOSSES_WITHOUT_PROGRESS = 10
"""Times in a row that workers may be lost before a further evaluation; a program that kills its
workers by itself (a segmentation fault) ends after as many.
"""
LOST, INFEASIBLE = "lost", "infeasible"
"""Outcomes of a job whose workers were lost too often (nothing is known of its result), and of one
that does not fit into memory.
"""
OUTCOMES: dict[FailureCause, str] = {"workers": LOST, "memory": INFEASIBLE}


@dataclass
class Attempts:
    """Of one job. `max_failures`: repetitions after an error of the training's own."""

    max_failures: int
    failures: int = 0
    losses: int = 0
    evaluations: int = 0

    def saw(self, event: Event) -> None:
        """Count progress: an evaluation that was not told before, or the end of the training."""
        match event:
            case Evaluated(report=report) if report.evaluation > self.evaluations:
                self.evaluations, self.losses = report.evaluation, 0
            case Trained():
                self.losses = 0

    def another(self, failed: Failed) -> bool:
        """Count a failure; whether the job is to be repeated."""
        if failed.cause == "workers":
            self.losses += 1
            return self.losses <= LOSSES_WITHOUT_PROGRESS
        if failed.cause == "training":
            self.failures += 1
            return self.failures <= self.max_failures
        return False


def given_up(failed: Failed) -> str:
    """The outcome of a job that is not repeated after this."""
    return OUTCOMES.get(failed.cause, "failed")
