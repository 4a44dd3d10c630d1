"""What is told of a job, from the workers through the slot to whoever asked: one frozen value per
thing that can happen. Each carries the job's id, because workers may carry out several at a time.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from components.training.outcomes import Outcome, Progress, Report

if TYPE_CHECKING:
    from components.jobs.job import Job
    from components.training.outcomes import FinalEvaluation

FailureCause = Literal["input", "training", "memory", "workers"]


@dataclass(frozen=True)
class Reused:
    """The job goes on from the checkpoint of an identical training, that of this run."""

    job_id: str
    run_id: str


@dataclass(frozen=True)
class Evaluated:
    """An evaluation during training; after a resumption the earlier ones are told again first."""

    job_id: str
    report: Report


@dataclass(frozen=True)
class Trained:
    """The training is over. `peak_memory_bytes`: of the worker that needed most; None where the
    system does not tell.
    """

    job_id: str
    outcome: Outcome
    reason: str
    progress: Progress
    trainable_parameters: int
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Finalized:
    """The best adapter was evaluated on test documents and its artifact written."""

    job_id: str
    final: "FinalEvaluation"


@dataclass(frozen=True)
class Left:
    """The training was saved and left its place, because its workers were told to: the job goes on
    wherever it is given next. Nothing failed.
    """

    job_id: str
    reason: str
    step: int


@dataclass(frozen=True)
class Failed:
    """The job ended with an error. `cause`: "input" where the user has to change something and a
    repetition gives the same, "training" where the training's own code raised, "memory" where it
    asked for more than there is, "workers" where the workers or their slot were lost.
    """

    job_id: str
    reason: str
    cause: FailureCause


Event = Reused | Evaluated | Trained | Finalized | Left | Failed


def ends(event: Event, job: "Job") -> bool:
    """Whether nothing more comes of this job after the event, as it was given."""
    match event:
        case Finalized() | Left() | Failed():
            return True
        case Trained(outcome=outcome):
            return not (job.evaluate and outcome == "completed")
    return False
