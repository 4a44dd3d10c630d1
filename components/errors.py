"""Errors that reach a user. Each carries one clear message: what was given, what was expected, how
to mend it.

The command line turns `UserError` into exit code 2 and a single line, `WorkFailed` into exit code 1
and a single line; every other exception is a failure that nobody expected (exit code 1).
"""

from components.secrets import without_secrets


class UserError(Exception):
    """What the user gave cannot be worked with; nothing was started or written.

    Its message holds no password or token, whatever it was made from.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(
            *(without_secrets(each) if isinstance(each, str) else each for each in arguments)
        )


class ConfigError(UserError):
    """A setting is wrong. The message starts with the dotted config path."""


class DataError(UserError):
    """The documents are wrong. The message names file, row and fix."""


class BackboneError(UserError):
    """The backbone cannot be loaded or does not fit the configuration."""


class ArtifactError(UserError):
    """An adapter folder cannot be read, or does not belong to this backbone."""


class ClusterError(UserError):
    """A Ray cluster or an MLflow server cannot be reached or refuses the credentials."""


class RegistryError(UserError):
    """A run, a registered adapter or one of its versions does not exist."""


GATE_REFUSED = 3
"""Exit code of a command whose gate did not let a version become champion."""


class GateRefused(Exception):
    """A candidate was measured and not promoted (exit code GATE_REFUSED)."""


class WorkFailed(Exception):
    """What was asked was begun and failed for a cause that is known (exit code 1, one line, no
    traceback; `log`, where it is given, is the file that holds one). The same command, with
    --resume where it has that option, goes on: the command line says how, unless not `resumable`.
    """

    def __init__(self, message: str, *, log: str | None = None, resumable: bool = True) -> None:
        super().__init__(without_secrets(message))
        self.log, self.resumable = log, resumable
