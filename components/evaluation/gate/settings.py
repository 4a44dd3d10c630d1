"""Settings of when a challenger takes the champion's place: the section `gate`."""

from typing import Annotated, Literal

from pydantic import Field

from components.settings import Config, PositiveInt

NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
GateMetric = Literal["accuracy", "macro_f1", "nll", "brier"]


class GateConfig(Config):
    """What has to be shown on the test documents before the alias champion moves."""

    metric: GateMetric = "accuracy"
    """What decides, on test documents. A gain is positive where the challenger is better, whichever
    direction the metric has.
    """
    required_gain: NonNegative = 0.0
    """The gain must lie above this with confidence: its interval's lower end is compared."""
    margin: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """Non-inferiority in place of a required gain: promotes where the interval's lower end lies
    above -margin. Null: a gain is required.
    """
    alpha: Annotated[float, Field(gt=0.0, le=0.2)] = 0.05
    """Chance of promoting one that is not better, over all decisions that one test set will ever
    make: the k-th one may spend 6 / (pi k)^2 of it.
    """
    confirm_seeds: Annotated[int, Field(ge=0, le=20)] = 2
    """A search whose model has a champion trains its best point again with this many other seeds;
    the decision is over all of these trainings, its own and the others.
    """
    max_nll_increase: NonNegative | None = 0.1
    """The challenger's negative log-likelihood may exceed the champion's by this, in nats. Null: no
    limit.
    """
    max_brier_increase: NonNegative | None = 0.05
    """The same for Brier's score (0 to 2)."""
    max_ece_increase: NonNegative | None = 0.05
    """The same for the expected calibration error (0 to 1)."""
    slice_margin: NonNegative = 0.05
    """No class and no length bucket may be shown to lose more accuracy than this (Holm-corrected
    over all of them).
    """
    length_edges: tuple[PositiveInt, ...] | None = None
    """Longest document of every length bucket but the last, in tokens; null takes quartiles. A
    bucket without documents fails.
    """
    max_parameters: PositiveInt | None = None
    """Most trained parameters that a champion may have. Null: no limit."""
    max_latency_ratio: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    """Most time per document that the challenger may take, as a multiple of the champion's,
    measured on the same documents in the same process. Null: no limit.
    """
