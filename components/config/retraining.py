"""What a retraining is: a YAML file beside the experiments."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from components.config.loading import read_yaml
from components.data.drift.settings import DriftConfig
from components.errors import ConfigError
from components.settings import Config, Name, PositiveInt, validate

Factor = Annotated[float, Field(gt=0.0, le=100.0, allow_inf_nan=False)]


class RoundChampionConfig(Config):
    """The small search round the champion's point."""

    learning_rate_factors: Annotated[tuple[Factor, ...], Field(min_length=1)] = (0.3, 1.0)
    """The champion's learning rate times each of these is tried. Trials that start from its values
    want a smaller one (pipelines/research/results.md, warm starts).
    """
    prefix_length_factors: Annotated[tuple[Factor, ...], Field(min_length=1)] = (1.0,)
    """The same for the prefix length, where the method has one (rounded, at least 1)."""
    warm_start: bool = True
    """Trials start from the champion's values instead of fresh ones."""


class LimitsConfig(Config):
    """What one retraining may take. Null: no limit."""

    trials: PositiveInt | None = None
    """Most trials of its search; more are refused before anything starts."""
    tokens: PositiveInt | None = None
    """Most tokens to train on, all trials and confirming seeds to their ends; refused likewise, as
    soon as the documents are counted.
    """
    hours: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """Wall time of one call. What is at work then is interrupted; the next call goes on with it."""


class RetrainingConfig(Config):
    """One retraining that is done again and again."""

    name: Name
    """Name of the retraining: letters, digits, dot, dash, underscore."""
    experiment: str
    """A checked-in experiment's name, or the path of a YAML file (relative to this file)."""
    overrides: tuple[str, ...] = ()
    """Settings of the experiment that are changed: path=value, as by --set."""
    min_new_documents: PositiveInt = 1
    """Documents that were added, corrected or removed since the last success below which there is
    nothing to do.
    """
    drift: DriftConfig = DriftConfig()
    """What may change between the documents of two retrainings."""
    round_champion: RoundChampionConfig = RoundChampionConfig()
    """What is tried where there is a champion; the first time the experiment's own search runs."""
    limits: LimitsConfig = LimitsConfig()
    """What it may take."""


def load_retraining(path: Path) -> RetrainingConfig:
    """Read a retraining's file. Raises ConfigError."""
    values = read_yaml(path)
    if "backbone" in values or "methods" in values:
        raise ConfigError(
            f"{path} is no retraining but an experiment. A retraining has name and experiment; "
            f"see pipelines/retraining/README.md."
        )
    config = validate(RetrainingConfig, values)
    beside = path.parent / config.experiment
    if beside.suffix in (".yaml", ".yml") and beside.is_file():
        return config.model_copy(update={"experiment": str(beside)})
    return config
