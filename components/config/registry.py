"""Settings of where runs and adapters are kept: the section `registry`."""

from typing import Literal

from components.settings import Config, Name


class RegistryConfig(Config):
    """Where runs and adapters are kept."""

    kind: Literal["mlflow", "memory"] = "mlflow"
    """`memory` keeps nothing after the process: for tests and dry runs."""
    model_name: Name | None = None
    """Name of the registered adapter: letters, digits, dot, dash, underscore; null takes the
    experiment's name.
    """
