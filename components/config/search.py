"""Settings of a search: the section `search` and the domains of its space."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from components.settings import Config, Count, PositiveInt, choice_tag


def holds_repeats(values: Sequence[Any]) -> bool:
    """Whether two of these plain values are equal."""
    return len({json.dumps(value, sort_keys=True) for value in values}) < len(values)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if holds_repeats(values):
        raise ValueError(
            f"{list(values)} holds a value twice, which would train the same trial twice: leave "
            "one out"
        )
    return values


Values = Annotated[tuple[Any, ...], Field(min_length=1), AfterValidator(_different)]


class Choice(Config):
    choice: Values
    """One of these values, drawn uniformly (grid searcher: each of them)."""


class LogUniform(Config):
    log_uniform: Annotated[tuple[float, float], Field()]
    """Float between low and high, uniform in its logarithm."""

    @model_validator(mode="after")
    def _ordered(self) -> "LogUniform":
        low, high = self.log_uniform
        if not 0.0 < low < high:
            raise ValueError(f"log_uniform needs 0 < low < high, got [{low}, {high}]")
        return self


class Uniform(Config):
    uniform: Annotated[tuple[float, float], Field()]
    """Float between low and high."""

    @model_validator(mode="after")
    def _ordered(self) -> "Uniform":
        if not self.uniform[0] < self.uniform[1]:
            raise ValueError(f"uniform needs low < high, got {list(self.uniform)}")
        return self


class Integer(Config):
    integer: Annotated[tuple[int, int], Field()]
    """Integer from low to high, both included."""

    @model_validator(mode="after")
    def _ordered(self) -> "Integer":
        if not self.integer[0] <= self.integer[1]:
            raise ValueError(f"integer needs low <= high, got {list(self.integer)}")
        return self


class Grid(Config):
    grid: Values
    """Every one of these values; trials are repeated for each."""


DOMAIN_KINDS = ("choice", "log_uniform", "uniform", "integer", "grid")


def _domain_kind(value: Any) -> str | None:
    keys = (
        list(value)
        if isinstance(value, dict)
        else [name for name in DOMAIN_KINDS if hasattr(value, name)]
    )
    return choice_tag(keys[0]) if len(keys) == 1 and keys[0] in DOMAIN_KINDS else None


Domain = Annotated[
    Annotated[Choice, Tag(choice_tag("choice"))]
    | Annotated[LogUniform, Tag(choice_tag("log_uniform"))]
    | Annotated[Uniform, Tag(choice_tag("uniform"))]
    | Annotated[Integer, Tag(choice_tag("integer"))]
    | Annotated[Grid, Tag(choice_tag("grid"))],
    Discriminator(
        _domain_kind,
        custom_error_type="domain",
        custom_error_message=(
            "expected one of {choice: [...]}, {log_uniform: [low, high]}, {uniform: [low, high]}, "
            "{integer: [low, high]}, {grid: [...]}"
        ),
    ),
]


DEFAULT_SPACE: dict[str, Domain] = {
    "adapter.prefix_length": Choice(choice=(4, 8, 16, 32)),
    "optimizer.learning_rate": Choice(choice=(5e-4, 1e-3, 5e-3, 7e-3, 1e-2, 5e-2)),
}


MOST_TRIALS = 100_000
"""Of one search: all its points are listed before the first trial starts."""


class AshaConfig(Config):
    """Asynchronous successive halving, in units of evaluations."""

    grace_evaluations: PositiveInt = 1
    """Every trial gets at least this many evaluations."""
    reduction_factor: Annotated[PositiveInt, Field(ge=2)] = 3
    """At each rung one in this many trials goes on."""


class SearchConfig(Config):
    """What Ray Tune searches, and how."""

    space: Annotated[dict[str, Domain], Field(min_length=1)] = DEFAULT_SPACE
    """Dotted config path -> domain."""
    searcher: str = "random"
    """Name in the table of components/tuning/searchers.py. `grid`: every combination of the
    choices; `random`: num_trials draws, none of them twice; `optuna`: num_trials points, each
    chosen by the results so far (TPE; needs the extra `optuna`).
    """
    num_trials: Annotated[PositiveInt, Field(le=MOST_TRIALS)] = 16
    """Number of points of the random (times the size of any grid) and the optuna searcher."""
    trial_scheduler: Literal["asha", "none"] = "asha"
    """`asha` stops trials that fall behind; `none` runs every trial to its end."""
    asha: AshaConfig = AshaConfig()
    concurrent_slots: Annotated[PositiveInt, Field(le=10_000)] = 1
    """Trial slots that run at the same time; each holds one worker group with the backbone loaded.
    """
    trials_per_slot: Annotated[PositiveInt, Field(le=1_000)] = 1
    """Trials that one slot trains side by side, in one run of the backbone over each batch; each
    keeps its own length, rates, schedule, stop and metrics. Needs adapter.placement suffix or
    one_way. All of them are at work at the same time: concurrent_slots x this.
    """
    reuse_trials: bool = True
    """Go on from a trial of an earlier search of this experiment where configuration, documents and
    code are the same, instead of training it again.
    """
    max_failures: Count = 1
    """How often a trial whose own code raised is started again from its last checkpoint. Workers
    that were lost are no fault of a trial and are not counted here (components/jobs/repetition.py).
    """
    allow_lost_trials: bool = False
    """Register the best of the trials that are left where others were lost with their workers.
    Without it such a search registers nothing, and --resume runs what was lost.
    """
