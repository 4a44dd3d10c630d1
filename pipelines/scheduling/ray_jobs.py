"""Scheduled commands as jobs of the Ray cluster, as `prefixprop submit` starts them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from components.errors import GATE_REFUSED, ClusterError
from pipelines.cluster_jobs import ClusterJob, has_ended, jobs
from pipelines.scheduling.scheduler import JobStatus
from pipelines.submit import continuing, send


class RayJobs:
    """See scheduler.Jobs. `home`: the folder that relative paths are read against, where the
    cluster sees the same one.
    """

    def __init__(
        self,
        jobs_address: str,
        *,
        environ: Mapping[str, str],
        working_dir: Path,
        home: Path | None = None,
    ) -> None:
        self.jobs_address, self.environ = jobs_address, environ
        self.working_dir, self.home = working_dir, home

    def start(self, command: Sequence[str], *, submission_id: str) -> None:
        if self._find(submission_id) is not None:
            return
        from ray.job_submission import JobSubmissionClient

        try:
            send(
                JobSubmissionClient(self.jobs_address),
                # a further attempt continues what the one before it left
                command if submission_id.endswith("-1") else continuing(command),
                submission_id=submission_id,
                name=command[0],
                environ=self.environ,
                working_dir=self.working_dir,
                home=self.home,
            )
        except ClusterError:
            # Another scheduler was faster: a Ray cluster takes an id once.
            if self._find(submission_id) is None:
                raise

    def status(self, submission_id: str) -> JobStatus:
        job = self._find(submission_id)
        if job is None:
            return "unknown"
        if not has_ended(job.status):
            return "running"
        if job.status == "SUCCEEDED":
            return "succeeded"
        return "refused" if job.exit_code == GATE_REFUSED else "failed"

    def _find(self, submission_id: str) -> ClusterJob | None:
        found = jobs(self.jobs_address)
        return next((job for job in found if job.submission_id == submission_id), None)
