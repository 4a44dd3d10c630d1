"""Submit a command as a Ray job: the same program, run by the cluster.

`prefixprop submit <command> ...` does what `ray job submit --working-dir . -- python -m
pipelines.cli <command> ...` does, after the command line has parsed it here. The fact a newcomer
gets wrong: Ray never retries a submitted job, and takes each submission id once. Ids here follow
from the command, <name>-<hash of the command>-<attempt>: submitting what already runs follows it
instead of starting it twice, and what failed or was stopped is continued by the next attempt.
"""

import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ClusterError, ConfigError
from components.registry import (
    code_fingerprint,
    code_version,
)
from components.registry.environment import CODE_VERSION
from components.secrets import holds_secret
from pipelines.cluster_jobs import follow_log, has_ended, job_of
from pipelines.job_environment import kept_back, passed_on
from pipelines.local_cluster.addresses import HOME, cluster_ray, ray_versions
from pipelines.upload import check_upload

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

# Files of secrets in the folder that is uploaded; and the state of the local cluster, whose logs
# grow: Ray names the package after its content, twice.
LEFT_OUT = (".env", ".env.*", ".netrc", ".prefixprop")
LOST = frozenset(
    f"JOB_SUPERVISOR_ACTOR_{what}"
    for what in ("DIED", "START_TIMEOUT", "START_FAILURE", "UNKNOWN_FAILURE")
)
"""Ray's kinds of error of a job that ended with its node, not by itself."""
CONTINUES = {"search": ("--resume", "if-any"), "train": ("--resume",)}
"""What makes a command continue an earlier attempt; the others do by themselves."""
RETRIES = 2
POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Submission:
    """One job. `status` is Ray's: SUCCEEDED, FAILED, STOPPED, or RUNNING where it was not waited
    for.
    """

    submission_id: str
    entrypoint: str
    jobs_address: str
    status: str
    message: str
    attached: bool
    """Whether the job ran already and was followed only."""
    exit_code: int | None


def submit(
    arguments: Sequence[str],
    *,
    name: str,
    jobs_address: str,
    environ: Mapping[str, str],
    working_dir: Path,
    home: Path | None = None,
    follow: bool = True,
    retries: int = RETRIES,
    write: Callable[[str], Any] = print,
    say: Callable[[str], None] = lambda line: None,
) -> Submission:
    """Run `python -m pipelines.cli <arguments>` on the cluster and follow its log until it ends.

    `name` and the arguments decide the submission id: a job of the same id that still runs is
    followed, one that failed or was stopped is continued by a further attempt. `retries`: how often
    one whose driver was lost with its node is continued; needs `follow`. `home`: the folder against
    which the job reads relative paths, where the cluster sees the same one. `write` takes pieces of
    the log, `say` lines about the submission. Raises ConfigError where `working_dir` is not this
    project, too large to be uploaded, or a password would be read on the dashboard, ClusterError
    where the job server refuses the job.
    """
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(jobs_address)
    order = _Order(client, arguments, name, jobs_address, environ, working_dir, home, say)
    for left in range(retries, -1, -1):
        submission_id, attached = _running_or_next(order)
        info = client.get_job_info(submission_id)
        if follow:
            info = _followed(client, submission_id, write)
        if not is_lost(info) or left == 0:
            break
        say(f"The driver of {submission_id} was lost with its node; starting the next attempt")
    return _submission(info, submission_id, jobs_address, attached=attached)


@dataclass(frozen=True)
class _Order:
    """What `submit` was called with."""

    client: "JobSubmissionClient"
    arguments: Sequence[str]
    name: str
    jobs_address: str
    environ: Mapping[str, str]
    working_dir: Path
    home: Path | None
    say: Callable[[str], None]


def _running_or_next(order: _Order) -> tuple[str, bool]:
    """The id of the job that runs already (True), or of its next attempt, which is submitted."""
    base = submission_base(order.name, order.arguments)
    running, earlier = _earlier(order.client, base)
    if running is not None:
        found = running.submission_id or ""
        order.say(f"The job {found} runs already; following it{_other_code(running)}")
        return found, True
    last = max(earlier, key=_attempt, default=None)
    attempt, arguments = 1, order.arguments
    if last is not None:
        attempt = _attempt(last) + 1
        if job_of(last).status != "SUCCEEDED":
            arguments = continuing(arguments)
    submission_id = f"{base}-{attempt}"
    upload = send(
        order.client,
        arguments,
        submission_id=submission_id,
        name=order.name,
        environ=order.environ,
        working_dir=order.working_dir,
        home=order.home,
    )
    order.say(
        f"Submitted, as this does: ray job submit --address {order.jobs_address} --submission-id "
        f"{submission_id} --working-dir . -- {entrypoint_of(arguments)}"
    )
    versions = ray_versions(cluster_ray(order.jobs_address, order.environ))
    order.say(f"{upload}. {versions}; code {code_fingerprint()}")
    if last is not None and len(arguments) > len(order.arguments):
        order.say(f"It continues what {last.submission_id} left, where that left anything")
    _say_what_is_kept_back(order.environ, order.say)
    return submission_id, False


def continuing(arguments: Sequence[str]) -> list[str]:
    """The command that continues what an earlier attempt of it left."""
    more = CONTINUES.get(arguments[0], ())
    return [*arguments, *(() if "--resume" in arguments else more)]


def is_lost(info: "JobDetails") -> bool:
    """Whether the job ended with its node and not by itself."""
    kind = str(getattr(info.error_type, "value", info.error_type))
    return job_of(info).status == "FAILED" and info.driver_exit_code is None and kind in LOST


def _followed(
    client: "JobSubmissionClient", submission_id: str, write: Callable[[str], Any]
) -> "JobDetails":
    """The job after its end. A connection that broke meanwhile is made anew; what the job wrote is
    then told again from its beginning.
    """
    while True:
        try:
            follow_log(client, submission_id, write)
        except (RuntimeError, ConnectionError) as error:
            write(f"The log broke off ({str(error).splitlines()[0]})\n")
            time.sleep(POLL_SECONDS)
        try:
            info = client.get_job_info(submission_id)
        except (RuntimeError, ConnectionError) as error:
            raise ClusterError(
                f"The job server no longer answers; the job may still run: prefixprop jobs status "
                f"{submission_id}"
            ) from error
        if has_ended(job_of(info).status):
            return info


def _other_code(running: "JobDetails") -> str:
    """What is to be known of a job that was submitted earlier by other code."""
    theirs, here = job_of(running).code, code_fingerprint()
    return "" if theirs in ("", here) else f", with its own code {theirs} (here is {here})"


def _submission(
    info: "JobDetails", submission_id: str, jobs_address: str, *, attached: bool
) -> Submission:
    job = job_of(info)
    return Submission(
        submission_id=submission_id,
        entrypoint=job.command,
        jobs_address=jobs_address,
        status=job.status,
        message=job.message,
        attached=attached,
        exit_code=job.exit_code,
    )


def _say_what_is_kept_back(environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    names = kept_back(environ)
    if names:
        say(
            "Not passed on, because a job's environment is read on the dashboard: "
            f"{', '.join(names)}. The cluster's own processes need them."
        )


def send(
    client: "JobSubmissionClient",
    arguments: Sequence[str],
    *,
    submission_id: str,
    name: str,
    environ: Mapping[str, str],
    working_dir: Path,
    home: Path | None,
) -> str:
    """Start the job of this id; returns what was uploaded, in a line. Raises as `submit`."""
    _check_project(working_dir)
    _check_arguments(arguments)
    upload = check_upload(working_dir, LEFT_OUT)
    variables = passed_on(environ) | ({HOME: str(home)} if home is not None else {})
    variables |= {CODE_VERSION: code_version()}
    # Or it lists what it leaves out of the upload, several times.
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        client.submit_job(
            entrypoint=entrypoint_of(arguments),
            submission_id=submission_id,
            runtime_env={
                "working_dir": str(working_dir),
                "excludes": list(LEFT_OUT),
                "env_vars": variables,
            },
            metadata={"experiment": name, "code": code_fingerprint()},
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
        raise ClusterError(f"The job server refused the job: {reason[0]}") from error
    return upload.line()


def entrypoint_of(arguments: Sequence[str]) -> str:
    """The command line of the job."""
    return shlex.join(["python", "-m", "pipelines.cli", *arguments])


def _check_arguments(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if holds_secret(argument):
            raise ConfigError(
                f"The argument '{argument}' holds a password or a token, and a job's command is "
                "read on the dashboard. Take it out; secrets belong into the environment of the "
                "cluster's own processes."
            )


def _check_project(working_dir: Path) -> None:
    if not (working_dir / "pipelines" / "cli.py").is_file():
        raise ConfigError(
            f"'{working_dir}' does not hold pipelines/cli.py. Submit from the project's own "
            "folder: its code is what the job runs."
        )


def submission_base(name: str, arguments: Sequence[str]) -> str:
    """The part of the submission id that the same command always has."""
    return f"{name}-{sha256(shlex.join(arguments).encode()).hexdigest()[:8]}"


def _earlier(
    client: "JobSubmissionClient", base: str
) -> "tuple[JobDetails | None, list[JobDetails]]":
    """The running job of this base, and all of them."""
    found = [
        job for job in client.list_jobs() if (job.submission_id or "").rpartition("-")[0] == base
    ]
    return next((job for job in found if not job.status.is_terminal()), None), found


def _attempt(job: "JobDetails") -> int:
    return int((job.submission_id or "").rpartition("-")[2])
