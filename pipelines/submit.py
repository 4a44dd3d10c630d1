"""Submit a command as a Ray job: the same program, run by the cluster.

`prefixprop submit <command> ...` does what `ray job submit --working-dir . -- python -m
pipelines.cli <command> ...` does, after the command line has parsed it here. The fact a newcomer
gets wrong: Ray never retries a submitted job, and takes each submission id once. Ids here follow
from the command, so that submitting what already runs follows it instead of starting it twice.
"""

import asyncio
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import ClusterError, ConfigError
from components.registry import check_passed_on, split_credentials
from components.secrets import holds_secret
from pipelines.local_cluster.lifecycle import HOME

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

# Only what is no secret: a job's runtime environment is readable on the dashboard. Tokens belong
# into the environment of the cluster's own processes.
PASSED_ON = ("MLFLOW_TRACKING_URI", "HF_HUB_OFFLINE")
# Files of secrets in the folder that is uploaded; and the state of the local cluster, whose logs
# grow: Ray names the package after its content, twice.
LEFT_OUT = (".env", ".env.*", ".netrc", ".prefixprop")
NOT_PASSED_ON = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


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
    wait: bool = True,
    write: Callable[[str], Any] = print,
    say: Callable[[str], None] = lambda line: None,
) -> Submission:
    """Run `python -m pipelines.cli <arguments>` on the cluster and follow its log until it ends.

    `name` and the arguments decide the submission id: a job of the same id that still runs is
    followed, an ended one gets a further attempt. `home`: the folder against which the job reads
    relative paths, where the cluster sees the same one. `write` takes pieces of the log, `say`
    lines about the submission. Raises ConfigError where `working_dir` is not this project or a
    password would be read on the dashboard, ClusterError where the job server refuses the job.
    """
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(jobs_address)
    entrypoint = entrypoint_of(arguments)
    base = submission_base(name, arguments)
    running, attempt = _earlier(client, base)
    submission_id = running or f"{base}-{attempt}"
    if running:
        say(f"The job {running} runs already; following it")
    else:
        send(
            client,
            arguments,
            submission_id=submission_id,
            name=name,
            environ=environ,
            working_dir=working_dir,
            home=home,
        )
        say(
            f"Submitted, as this does: ray job submit --address {jobs_address} --submission-id "
            f"{submission_id} --working-dir . -- {entrypoint}"
        )
        _say_what_is_kept_back(environ, say)
    if wait:
        asyncio.run(_follow(client, submission_id, write))
    return _submission(client, submission_id, entrypoint, jobs_address, attached=bool(running))


def _submission(
    client: "JobSubmissionClient",
    submission_id: str,
    entrypoint: str,
    jobs_address: str,
    *,
    attached: bool,
) -> Submission:
    """How the job stands now."""
    info = client.get_job_info(submission_id)
    return Submission(
        submission_id=submission_id,
        entrypoint=entrypoint,
        jobs_address=jobs_address,
        status=_status(info),
        message=info.message or "",
        attached=attached,
        exit_code=info.driver_exit_code,
    )


def _say_what_is_kept_back(environ: Mapping[str, str], say: Callable[[str], None]) -> None:
    kept_back = _kept_back(environ)
    if kept_back:
        say(
            "Not passed on, because a job's environment is read on the dashboard: "
            f"{', '.join(kept_back)}. The cluster's own processes need them."
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
) -> None:
    """Start the job of this id. Raises as `submit`."""
    _check_project(working_dir)
    _check_arguments(arguments)
    variables = passed_on(environ) | ({HOME: str(home)} if home is not None else {})
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
            metadata={"experiment": name},
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1:] or ["no reason given"]
        raise ClusterError(f"The job server refused the job: {reason[0]}") from error


def entrypoint_of(arguments: Sequence[str]) -> str:
    """The command line of the job."""
    return shlex.join(["python", "-m", "pipelines.cli", *arguments])


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the environment that a job is given: what everybody may read. Raises ConfigError
    where the tracking store's address holds a password that cannot be taken out of it.
    """
    variables = {key: environ[key] for key in PASSED_ON if environ.get(key)}
    if "MLFLOW_TRACKING_URI" in variables:
        address, _ = split_credentials(variables["MLFLOW_TRACKING_URI"])
        check_passed_on(address)
        variables["MLFLOW_TRACKING_URI"] = address
    return variables


def _kept_back(environ: Mapping[str, str]) -> list[str]:
    """The variables that the tracking store would want and a job does not get."""
    address = environ.get("MLFLOW_TRACKING_URI") or ""
    _, credentials = split_credentials(address)
    return [
        name for name in NOT_PASSED_ON if address and (name in credentials or environ.get(name))
    ]


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


def _earlier(client: "JobSubmissionClient", base: str) -> tuple[str | None, int]:
    """The id of a running job of this base, and the number of the next attempt."""
    jobs = {
        job.submission_id: job
        for job in client.list_jobs()
        if (job.submission_id or "").rpartition("-")[0] == base
    }
    running = next(
        (submission_id for submission_id, job in jobs.items() if not job.status.is_terminal()), None
    )
    attempts = [int(submission_id.rpartition("-")[2]) for submission_id in jobs]
    return running, max(attempts, default=0) + 1


def _status(info: "JobDetails") -> str:
    return str(getattr(info.status, "value", info.status))


async def _follow(
    client: "JobSubmissionClient", submission_id: str, write: Callable[[str], Any]
) -> None:
    async for piece in client.tail_job_logs(submission_id):
        write(piece)
