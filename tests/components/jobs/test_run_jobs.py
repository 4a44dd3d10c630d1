"""The driver's loop with workers that do what a test tells them: what is repeated, what is not, and
in which order jobs are asked for.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from components.config import TrainConfig, validate
from components.jobs.events import Evaluated, Event, Failed, Finalized, Left, Trained
from components.jobs.job import Job
from components.jobs.repetition import LOSSES_WITHOUT_PROGRESS
from components.jobs.run_jobs import JobResult, run_jobs, run_one
from components.training.outcomes import Progress, Report
from tests.components.jobs.test_record import FINAL

CONFIG = validate(
    TrainConfig,
    {
        "backbone": {"name_or_path": "x", "family": "longformer"},
        "data": {"files": {"train": "a.jsonl"}},
    },
)


def job(name: str, *, train: bool = True, evaluate: bool = False) -> Job:
    return Job(name, CONFIG, Path("data"), Path(name), train=train, evaluate=evaluate)


class Scripted:
    """Workers with `capacity` places; what becomes of a job is what `becomes` says, one list of
    events per start.
    """

    def __init__(self, becomes: Callable[[Job, int], list[Event]], capacity: int = 1) -> None:
        self.becomes, self.capacity = becomes, capacity
        self.started: list[Job] = []
        self.waiting: list[list[Event]] = []

    def start(self, job: Job) -> None:
        assert len(self.waiting) < self.capacity
        self.started.append(job)
        times = sum(each.id == job.id for each in self.started)
        self.waiting.append(self.becomes(job, times))

    def deliver(self, handle: Callable[[Event], None]) -> None:
        for event in self.waiting.pop(0):
            handle(event)

    def drop(self, job_id: str) -> None:
        raise AssertionError("nobody drops here")


def trained(name: str, outcome: str = "completed") -> Trained:
    return Trained(name, outcome, "said so", Progress(step=3), 7, None)  # type: ignore[arg-type]


def lost(name: str) -> Failed:
    return Failed(name, "the worker died", "workers")


def test_every_job_ends_with_one_result() -> None:
    left = [job(f"job-{number}") for number in range(7)]
    results: list[JobResult] = []
    workers = Scripted(lambda job, _: [trained(job.id)], capacity=3)
    run_jobs(workers, lambda: left.pop(0) if left else None, on_result=results.append)
    assert [result.job.id for result in results] == [f"job-{number}" for number in range(7)]
    assert {result.outcome for result in results} == {"completed"}


def test_what_comes_next_may_depend_on_results() -> None:
    results: list[JobResult] = []

    def next_job() -> Job | None:
        return job(str(len(results))) if len(results) < 3 else None

    run_jobs(Scripted(lambda job, _: [trained(job.id)]), next_job, on_result=results.append)
    assert [result.job.id for result in results] == ["0", "1", "2"]


def raised(name: str) -> Failed:
    return Failed(name, "ZeroDivisionError: x", "training")


def test_a_failed_job_is_repeated_and_given_up_after_its_failures() -> None:
    workers = Scripted(lambda job, time: [raised(job.id)] if time < 3 else [trained(job.id)])
    assert run_one(workers, job("a"), max_failures=2).outcome == "completed"
    assert len(workers.started) == 3
    workers = Scripted(lambda job, time: [raised(job.id)])
    result = run_one(workers, job("a"), max_failures=2)
    assert (result.outcome, result.reason) == ("failed", "ZeroDivisionError: x")
    assert len(workers.started) == 3


def test_lost_workers_are_counted_apart_and_are_no_failure() -> None:
    workers = Scripted(
        lambda job, time: [lost(job.id)] if time <= LOSSES_WITHOUT_PROGRESS else [trained(job.id)]
    )
    assert run_one(workers, job("a"), max_failures=0).outcome == "completed"
    workers = Scripted(lambda job, time: [lost(job.id)])
    result = run_one(workers, job("a"), max_failures=0)
    assert (result.outcome, result.reason) == ("lost", "the worker died")
    assert len(workers.started) == LOSSES_WITHOUT_PROGRESS + 1


def test_a_training_that_left_its_place_is_given_again_however_often() -> None:
    often = 3 * LOSSES_WITHOUT_PROGRESS

    def becomes(job: Job, times: int) -> list[Event]:
        return [Left(job.id, "a notice", times)] if times <= often else [trained(job.id)]

    workers = Scripted(becomes)
    result = run_one(workers, job("a"))
    assert (result.outcome, len(workers.started)) == ("completed", often + 1)


def test_a_training_that_comes_along_is_never_given_up_for_lost_workers() -> None:
    """Each start tells what was told before, then one evaluation more."""

    def evaluated(number: int) -> Event:
        return Evaluated("a", Report(number, number, {}, True, False, trainable_parameters=1))

    def becomes(job: Job, time: int) -> list[Event]:
        told = [evaluated(number + 1) for number in range(time)]
        return [*told, lost("a")] if time < 3 * LOSSES_WITHOUT_PROGRESS else [trained("a")]

    assert run_one(Scripted(becomes), job("a")).outcome == "completed"


def test_what_was_told_before_is_no_progress() -> None:
    report = Report(1, 1, {}, is_best=True, done=False, trainable_parameters=1)
    workers = Scripted(lambda job, time: [Evaluated("a", report), lost("a")])
    assert run_one(workers, job("a")).outcome == "lost"
    assert len(workers.started) == LOSSES_WITHOUT_PROGRESS + 1


def test_a_lost_job_waits_for_a_place_where_its_own_is_gone() -> None:
    """Two places, one of which goes with the job that it had."""

    class Losing(Scripted):
        def deliver(self, handle: Callable[[Event], None]) -> None:
            if len(self.started) == 2:
                self.capacity = 1
            super().deliver(handle)

    left, results = [job("a"), job("b"), job("c")], list[JobResult]()
    workers = Losing(
        lambda job, time: [lost(job.id)] if job.id == "a" and time == 1 else [trained(job.id)],
        capacity=2,
    )
    run_jobs(workers, lambda: left.pop(0) if left else None, on_result=results.append)
    assert [result.job.id for result in results] == ["b", "a", "c"]
    assert {result.outcome for result in results} == {"completed"}


def test_wrong_input_is_not_repeated() -> None:
    workers = Scripted(lambda job, _: [Failed(job.id, "seed: too large", "input")])
    assert run_one(workers, job("a"), max_failures=5).outcome == "failed"
    assert len(workers.started) == 1


def test_a_training_that_is_done_is_not_asked_again_when_its_evaluation_fails() -> None:
    workers = Scripted(
        lambda job, time: (
            [trained(job.id), lost(job.id)] if time == 1 else [Finalized(job.id, FINAL)]
        )
    )
    result = run_one(workers, job("a", evaluate=True), max_failures=1)
    assert [each.train for each in workers.started] == [True, False]
    assert result.trained == trained("a") and result.final == FINAL
    assert result.job.train  # what was asked


def test_a_training_that_diverged_is_over_though_its_evaluation_was_asked() -> None:
    workers = Scripted(lambda job, _: [trained(job.id, "diverged")])
    result = run_one(workers, job("a", evaluate=True))
    assert (result.outcome, result.final) == ("diverged", None)


def test_events_are_told_of_jobs_that_run_and_no_others() -> None:
    report = Report(1, 1, {}, is_best=True, done=False, trainable_parameters=1)
    told: list[Event] = []
    own, other = Evaluated("a", report), Evaluated("b", report)
    workers = Scripted(lambda job, _: [own, other, trained(job.id), replace(own)])
    run_one(workers, job("a"), on_event=told.append)
    assert told == [own, trained("a")]
