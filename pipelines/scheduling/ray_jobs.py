"""Scheduled commands as jobs of the Ray cluster, as `prefixprop submit` starts them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ClusterError
from pipelines.scheduling.scheduler import JobStatus
from pipelines.submit import send

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

GATE_REFUSED = 3
"""Exit code of a command whose gate did not promote."""


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
        client = self._client()
        if self._known(client, submission_id):
            return
        try:
            send(
                client,
                command,
                submission_id=submission_id,
                name=command[0],
                environ=self.environ,
                working_dir=self.working_dir,
                home=self.home,
            )
        except ClusterError:
            # Another scheduler was faster: a Ray cluster takes an id once.
            if not self._known(client, submission_id):
                raise

    def status(self, submission_id: str) -> JobStatus:
        client = self._client()
        if not self._known(client, submission_id):
            return "unknown"
        info = client.get_job_info(submission_id)
        if not info.status.is_terminal():
            return "running"
        if getattr(info.status, "value", info.status) == "SUCCEEDED":
            return "succeeded"
        return "refused" if info.driver_exit_code == GATE_REFUSED else "failed"

    def _client(self) -> "JobSubmissionClient":
        from ray.job_submission import JobSubmissionClient

        try:
            return JobSubmissionClient(self.jobs_address)
        except (ConnectionError, RuntimeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ClusterError(
                f"The job server {self.jobs_address} does not answer ({first})."
            ) from error

    def _known(self, client: "JobSubmissionClient", submission_id: str) -> bool:
        try:
            return any(job.submission_id == submission_id for job in client.list_jobs())
        except (ConnectionError, RuntimeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ClusterError(
                f"The job server {self.jobs_address} does not answer ({first})."
            ) from error
