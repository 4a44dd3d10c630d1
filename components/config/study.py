"""Settings of `prefixprop study`: the section `study`; other commands do not read it."""

from typing import Annotated, Literal

from pydantic import Field

from components.adapters.methods import METHODS
from components.data.settings import DataConfig
from components.settings import Config, PositiveInt, Rate, Seed, one_of


class KernelStudyConfig(Config):
    """What `prefixprop study kernel` measures; how adapters are trained and on what is the
    experiment's own.
    """

    kernels: Annotated[tuple[Literal["exp", "rbf", "polynomial"], ...], Field(min_length=1)] = (
        "exp",
        "rbf",
        "polynomial",
    )
    """Kernels of the decomposed methods that are trained beside the softmax ones."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (10,)
    """Every method is trained with each of these seeds."""
    mass_lengths: Annotated[tuple[PositiveInt, ...], Field(min_length=2)] = (
        256,
        512,
        1024,
        2048,
        4096,
    )
    """The prefix's share of attention is measured on the first so many tokens of test documents."""
    mass_documents: PositiveInt = 8
    """Test documents of at least the largest of these lengths."""
    alpha_documents: PositiveInt = 32
    """Training documents on which the decomposition's alphas are fitted to the softmax model."""


MethodName = Annotated[str, one_of("study.length.methods", lambda: METHODS)]


class LengthStudyConfig(Config):
    """What `prefixprop study length` compares; the experiment's own `data` is the needle task."""

    methods: Annotated[tuple[MethodName, ...], Field(min_length=2)] = (
        "prefix_propagation",
        "prefix_tuning",
        "head_only",
    )
    """Values of adapter.method; the first one is compared with each of the others."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (10, 11)
    """Every method is trained with each of these seeds."""
    real: DataConfig | None = None
    """Real documents, on which accuracy and calibration are reported by length beside the needle
    task. Null: the needle task alone.
    """
    real_epochs: PositiveInt = 2
    """Passes over the real training documents; everything else is as for the needle task."""
    real_learning_rate: Rate | None = None
    """Peak learning rate on the real documents; null: the experiment's own."""


class WarmStartStudyConfig(Config):
    """What `prefixprop study warm_start` compares; the experiment's own `data` are the documents of
    the retraining.
    """

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (10, 11, 12)
    """Of each seed its own champion, and its own choice of the documents that are new."""
    added_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """New training documents, as a share of those that the champion was trained on."""
    warm_rate_factors: Annotated[tuple[Rate, ...], Field(min_length=1)] = (1.0, 0.3)
    """A warm training for each: its learning rate as a multiple of the cold one's."""
    shorter_length: PositiveInt | None = None
    """Prefix length to which the champion's prefix is cut, by each way of choosing the rows that
    stay; null: not measured.
    """


class StudyConfig(Config):
    """What `prefixprop study` varies; other commands do not read it."""

    kernel: KernelStudyConfig | None = None
    """Settings of `prefixprop study kernel`."""
    length: LengthStudyConfig | None = None
    """Settings of `prefixprop study length`."""
    warm_start: WarmStartStudyConfig | None = None
    """Settings of `prefixprop study warm_start`."""
