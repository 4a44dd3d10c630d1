"""Jobs of the cluster: which there are, how one stands, its log, its end.

Ray forgets its jobs when its head is started anew (unless it has a database of its own).
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

STOP_SECONDS = 120.0
"""How long a stopped job may take to end its runs before `stop` no longer waits."""


@dataclass(frozen=True)
class ClusterJob:
    """One job. Times in seconds since 1970, None where it has not begun or ended; `code` is the
    fingerprint of what it runs, "" where it was not submitted by this program.
    """

    submission_id: str
    status: str
    command: str
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    message: str
    code: str


def jobs(jobs_address: str) -> tuple[ClusterJob, ...]:
    """Every submitted job, the latest first. Raises ClusterError."""
    from ray.job_submission import JobSubmissionClient

    try:
        found = JobSubmissionClient(jobs_address).list_jobs()
    except (ConnectionError, RuntimeError) as error:
        raise _away(jobs_address, error) from error
    told = [job_of(each) for each in found if each.submission_id]
    return tuple(sorted(told, key=lambda job: job.started_at or 0.0, reverse=True))


def job(jobs_address: str, submission_id: str) -> ClusterJob:
    """Raises ConfigError where the cluster knows no such job."""
    found = jobs(jobs_address)
    for each in found:
        if each.submission_id == submission_id:
            return each
    known = ", ".join(each.submission_id for each in found[:5]) or "none"
    raise ConfigError(f"The cluster knows no job '{submission_id}'. The latest: {known}.")


def log(
    jobs_address: str, submission_id: str, *, follow: bool, write: Callable[[str], Any]
) -> ClusterJob:
    """Write what the job has written so far, or until it ends; returns how it stands then."""
    from ray.job_submission import JobSubmissionClient

    job(jobs_address, submission_id)
    client = JobSubmissionClient(jobs_address)
    try:
        if follow:
            follow_log(client, submission_id, write)
        else:
            write(client.get_job_logs(submission_id))
    except (ConnectionError, RuntimeError) as error:
        raise _away(jobs_address, error) from error
    return job(jobs_address, submission_id)


def stop(jobs_address: str, submission_id: str, *, seconds: float = STOP_SECONDS) -> ClusterJob:
    """End a job and wait for its end; one that has ended stays as it is."""
    from ray.job_submission import JobSubmissionClient

    found, until = job(jobs_address, submission_id), time.monotonic() + seconds
    if has_ended(found.status):
        return found
    JobSubmissionClient(jobs_address).stop_job(submission_id)
    while not has_ended(found.status) and time.monotonic() < until:
        time.sleep(0.5)
        found = job(jobs_address, submission_id)
    return found


def follow_log(
    client: "JobSubmissionClient", submission_id: str, write: Callable[[str], Any]
) -> None:
    """Hand on the log until the job ends."""

    async def follow() -> None:
        async for piece in client.tail_job_logs(submission_id):
            write(piece)

    asyncio.run(follow())


def job_of(info: "JobDetails") -> ClusterJob:
    """Ray's answer as ours."""
    return ClusterJob(
        submission_id=info.submission_id or "",
        status=str(getattr(info.status, "value", info.status)),
        command=info.entrypoint,
        started_at=None if info.start_time is None else info.start_time / 1000,
        ended_at=info.end_time / 1000 if info.end_time else None,
        exit_code=info.driver_exit_code,
        message=info.message or "",
        code=(info.metadata or {}).get("code", ""),
    )


def has_ended(status: str) -> bool:
    return status in ("SUCCEEDED", "FAILED", "STOPPED")


def _away(jobs_address: str, error: Exception) -> ClusterError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ClusterError(f"The job server {jobs_address} does not answer ({first}).")
