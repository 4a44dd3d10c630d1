"""Errors that reach a user. Each carries one clear message: what was given, what was expected, how
to mend it.

The command line turns `UserError` into exit code 2 and a single line; every other exception is a
failure (exit code 1).
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


class GateRefused(Exception):
    """A candidate was measured and not promoted (exit code 3)."""
