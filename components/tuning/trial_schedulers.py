"""Trial schedulers: which trials go on after an evaluation."""

from collections.abc import Callable
from typing import Any

from components.config.experiment import ExperimentConfig

TIME_ATTRIBUTE = (
    "evaluation"  # every report carries it: without it ASHA would skip its decision silently
)


def asha(config: ExperimentConfig, max_evaluations: int) -> Any:
    """Asynchronous successive halving over evaluations. `max_evaluations`: of the longest trial;
    Tune ends every trial there.
    """
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(
        time_attr=TIME_ATTRIBUTE,
        max_t=max_evaluations,
        grace_period=min(config.search.asha.grace_evaluations, max_evaluations),
        reduction_factor=config.search.asha.reduction_factor,
    )


def none(config: ExperimentConfig, max_evaluations: int) -> Any:
    """Every trial runs to its end."""
    from ray.tune.schedulers import FIFOScheduler

    return FIFOScheduler()


TRIAL_SCHEDULERS: dict[str, Callable[[ExperimentConfig, int], Any]] = {"asha": asha, "none": none}
