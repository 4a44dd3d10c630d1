"""One training of many: its point of the space, its settings, their identity and its folder.

Made once, where the point is chosen; everybody else is handed the value. The same settings have the
same folder, so that a repeated training finds its own checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.config import ExperimentConfig, TrainConfig, config_sha256, trial_config

FOLDER_DIGITS = 16


@dataclass(frozen=True)
class Trial:
    """`point`: {config path: value} of what was chosen; `sha256`: of the settings."""

    point: Mapping[str, Any]
    config: TrainConfig
    sha256: str
    folder: Path

    @property
    def key(self) -> str:
        """What the folder of these settings is called."""
        return self.sha256[:FOLDER_DIGITS]

    def __str__(self) -> str:
        """Short, because Tune puts it into names."""
        return self.key


def make_trial(config: ExperimentConfig, point: Mapping[str, Any], *, folder: Path) -> Trial:
    """The trial of an experiment at a point of its space, below the search's `folder`. Raises
    ConfigError where the point does not make valid settings.
    """
    settings = trial_config(config, point)
    sha256 = config_sha256(settings)
    return Trial(dict(point), settings, sha256, folder / "trials" / sha256[:FOLDER_DIGITS])
