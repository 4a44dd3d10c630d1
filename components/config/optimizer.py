"""Settings of the optimizer: the section `optimizer`."""

from typing import Annotated, Literal

from pydantic import Field

from components.settings import Config, Fraction, Rate


class OptimizerConfig(Config):
    """AdamW and the learning-rate schedule."""

    learning_rate: Rate = 5e-3
    """Peak learning rate."""
    head_learning_rate: Rate | None = None
    """Peak learning rate of the head alone: a prefix wants ten times a head's. Null: the same."""
    betas: Annotated[tuple[Fraction, Fraction], Field()] = (0.9, 0.999)
    """AdamW's moment decay rates."""
    eps: Annotated[float, Field(ge=1e-30, le=1.0)] = 1e-8
    """AdamW's epsilon."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1e3)] = 0.0
    """AdamW's decoupled weight decay."""
    max_gradient_norm: Annotated[float, Field(ge=1e-6, le=1e30)] | None = 1.0
    """Clip the global gradient norm to this; null: no clipping."""
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Shape after the warm-up, down to zero at the last step (`constant`: no decay)."""
    warmup_ratio: Fraction = 0.1
    """Share of all optimizer steps with linearly rising learning rate."""
