"""Tell somebody how a scheduled job ended: a command, a webhook, or both."""

import hashlib
import hmac
import http.client
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import field_validator, model_validator

from components.loopback import opener
from components.secrets import holds_secret, keep_secret
from components.settings import Config, Texts

Status = Literal["succeeded", "refused", "failed", "unknown"]
SIGNATURE = "X-Prefixprop-Signature"
SECONDS = 30


class NotifyConfig(Config):
    """Who is told, and of what."""

    statuses: tuple[Status, ...] = ("failed", "unknown")
    """Ends that are told: succeeded; refused (the gate did not promote); failed; unknown (the
    cluster no longer knows the job).
    """
    command: Texts | None = None
    """A program and its arguments; it finds SCHEDULE, JOB and STATUS in its environment."""
    webhook: str | None = None
    """An http(s) address that gets a POST with a JSON body. A file under version control is no
    place for one that only its owner may know: see `webhook_variable`.
    """
    webhook_variable: str | None = None
    """Name of the environment variable that holds the address, in place of `webhook`: for an
    address by which everybody who knows it may post.
    """
    secret_variable: str | None = None
    """Name of the environment variable that holds the key by which the body is signed: header
    X-Prefixprop-Signature, "sha256=" and the HMAC-SHA256 of the body in hex. Null: not signed.
    """

    @field_validator("webhook")
    @classmethod
    def _without_secret(cls, webhook: str | None) -> str | None:
        if webhook is not None and holds_secret(webhook):
            raise ValueError(
                "holds a password or a token; put the address into an environment variable and "
                "name that in webhook_variable"
            )
        return webhook

    @model_validator(mode="after")
    def _one_address(self) -> "NotifyConfig":
        if self.webhook is not None and self.webhook_variable is not None:
            raise ValueError("takes one of webhook and webhook_variable; leave the other out")
        return self

    @property
    def tells(self) -> bool:
        """Whether anybody is told."""
        return bool(self.command or self.webhook or self.webhook_variable)


def notify(
    config: NotifyConfig,
    *,
    schedule: str,
    job: str,
    status: Status,
    environ: Mapping[str, str] = os.environ,
    say: Callable[[str], None] = print,
) -> None:
    """Run the command and post to the webhook. What goes wrong there is said and harms nothing."""
    if status not in config.statuses:
        return
    if config.command is not None:
        told = {"SCHEDULE": schedule, "JOB": job, "STATUS": status}
        try:
            done = subprocess.run(
                list(config.command),
                env={**environ, **told},
                timeout=SECONDS,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            if done.returncode:
                say(f"{schedule}: the notification command ended with {done.returncode}")
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"{schedule}: the notification command failed: {error}")
    if config.webhook is not None or config.webhook_variable is not None:
        body = json.dumps(
            {"schedule": schedule, "job": job, "status": status, "time": int(time.time())}
        ).encode()
        try:
            _post(config, body, environ)
        except (OSError, ValueError) as error:
            say(f"{schedule}: the webhook was not reached: {error}")


def _post(config: NotifyConfig, body: bytes, environ: Mapping[str, str]) -> None:
    headers = {"Content-Type": "application/json"}
    if config.secret_variable is not None:
        key = environ.get(config.secret_variable)
        if not key:
            raise ValueError(f"the variable {config.secret_variable} holds no key to sign with")
        headers[SIGNATURE] = f"sha256={hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}"
    address = _address(config, environ)
    if not address.startswith(("http://", "https://")):
        raise ValueError("notify.webhook (or what webhook_variable names) is no http(s) address")
    request = urllib.request.Request(address, data=body, headers=headers, method="POST")
    try:
        with opener(address).open(request, timeout=SECONDS):
            pass
    except (ValueError, http.client.HTTPException) as error:  # they quote the address
        raise ValueError(f"{type(error).__name__} in the address or the answer") from None


def _address(config: NotifyConfig, environ: Mapping[str, str]) -> str:
    """Where to post; kept out of every text of this process where the environment holds it."""
    if config.webhook_variable is None:
        return config.webhook or ""
    address = environ.get(config.webhook_variable)
    if not address:
        raise ValueError(f"the variable {config.webhook_variable} holds no address to post to")
    keep_secret([address])
    return address
