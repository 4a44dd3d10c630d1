"""A schedule as a CronJob of Kubernetes, for who has Kubernetes and wants no scheduler of ours.

What a newcomer gets wrong: no failure policy of a Kubernetes Job turns an exit code into success
(`Ignore` starts another pod), so the command line itself answers 0 where the gate refused.
"""

import itertools
import re
import shlex
from typing import Any

import yaml

from components.errors import ConfigError
from pipelines.scheduling.schedules import ScheduleConfig

SECRET = "prefixprop-submit"
"""Name of the secret with the addresses and the token that `prefixprop submit` reads."""
LONGEST_NAME = 52
"""Kubernetes appends 11 characters to a CronJob's name, and a Job's holds 63."""
FROM = 1767225600.0  # 2026-01-01 UTC: the same answer whenever it is asked
FIVE_FIELDS = re.compile(r"(?:[0-9A-Za-z*/,?-]+\s+){4}[0-6A-Za-z*/,?-]+")
NOT_OF_KUBERNETES = re.compile(r"(?<![A-Za-z])[Ll](?![A-Za-z])|(?<![A-Za-z])[WwRr](?![A-Za-z])")
HEADER = """\
# Made by: prefixprop schedule render {file} {name}
# Needs: an image of infra/docker/Dockerfile that holds the files which the command names, and a
# secret "{secret}" with RAY_ADDRESS (http://<head service>:8265), RAY_AUTH_MODE,
# RAY_AUTH_TOKEN and MLFLOW_TRACKING_URI. The gate's refusal (exit code 3) is no failure of the Job.
"""


def cron_job(schedule: ScheduleConfig, *, paused: bool) -> dict[str, Any]:
    """The manifest, as plain values. Raises ConfigError where Kubernetes could not run it."""
    name = f"prefixprop-{re.sub('[^a-z0-9-]', '-', schedule.name.lower())}".rstrip("-")
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f"'{name}' has {len(name)} characters, and a CronJob's name holds {LONGEST_NAME}. Give "
            "the schedule a shorter name."
        )
    if not FIVE_FIELDS.fullmatch(schedule.cron) or NOT_OF_KUBERNETES.search(schedule.cron):
        raise ConfigError(
            f"cron: '{schedule.cron}' holds what the scheduler here understands and Kubernetes "
            "does not (six fields, L, #, 7 for Sunday). Write it with five plain fields."
        )
    job = {
        "backoffLimit": schedule.retries,
        "podFailurePolicy": {
            "rules": [
                # a wrong input stays wrong; a pod that Kubernetes moves is no failure
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "submit", "operator": "In", "values": [2]},
                },
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            ]
        },
        "template": {"spec": {"restartPolicy": "Never", "containers": [_container(schedule)]}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {
            "schedule": schedule.cron,
            "timeZone": schedule.timezone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _deadline(schedule),
            "suspend": paused,
            "jobTemplate": {"spec": job},
        },
    }


def rendered(manifest: dict[str, Any], schedule: ScheduleConfig, file: str) -> str:
    """The manifest as YAML, with what it needs and leaves out in its first lines."""
    header = HEADER.format(file=file, name=schedule.name, secret=SECRET)
    if schedule.jitter_seconds or schedule.notify.tells:
        header += "# Left out, because a CronJob has no such thing: jitter_seconds and notify.\n"
    return header + yaml.safe_dump(manifest, sort_keys=False, width=100)


def _container(schedule: ScheduleConfig) -> dict[str, Any]:
    command = shlex.join(["prefixprop", "submit", *schedule.command])
    return {
        "name": "submit",
        "image": "prefixprop",
        "workingDir": "/app",
        "command": ["/bin/sh", "-c"],
        "args": [f"{command}; code=$?; test $code -eq 3 || exit $code"],
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
    }


def _deadline(schedule: ScheduleConfig) -> int:
    """How late, in seconds, a time is still started. `missed: once` makes up for the latest one
    until the next: the longest time between two. Kubernetes looks every 10 s.
    """
    if schedule.missed == "skip":
        return max(schedule.late_seconds, 20)
    times = itertools.islice(schedule.times(FROM), 60)
    return int(max(later - earlier for earlier, later in itertools.pairwise(times)))
