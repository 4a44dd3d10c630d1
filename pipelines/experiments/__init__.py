"""The named experiments: complete runs as YAML files beside this one. Components take paths; names
are a workflow's affair.
"""

from collections.abc import Sequence
from pathlib import Path

from components.config import loading
from components.config.comparison import ComparisonConfig
from components.config.comparison import load_comparison as load_comparison_file
from components.config.experiment import ExperimentConfig
from components.errors import ConfigError
from components.settings import did_you_mean, expand_path

EXPERIMENTS_FOLDER = Path(__file__).parent


def load_experiment(path_or_name: str, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read an experiment file, or a checked-in experiment by its name, and apply `a.b=value`
    overrides. Raises ConfigError.
    """
    return loading.load_experiment(find_file(path_or_name), overrides)


def load_comparison(path_or_name: str, overrides: Sequence[str] = ()) -> ComparisonConfig:
    """Read a comparison's file, or a checked-in one by its name. Raises ConfigError."""
    return load_comparison_file(find_file(path_or_name), overrides)


def find_file(path_or_name: str) -> Path:
    """The YAML file of a path, or of a checked-in name. Raises ConfigError where there is none."""
    path = Path(expand_path(path_or_name))
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ConfigError(
            f"Experiment file '{path}' does not exist. Give the path of a YAML file or one of: "
            f"{', '.join(_names())}."
        )
    named = EXPERIMENTS_FOLDER / f"{path_or_name}.yaml"
    if named.is_file():
        return named
    raise ConfigError(
        f"Unknown experiment '{path_or_name}'.{did_you_mean(path_or_name, _names())} Known: "
        f"{', '.join(_names())}."
    )


def _names() -> list[str]:
    return sorted(path.stem for path in EXPERIMENTS_FOLDER.glob("*.yaml"))
