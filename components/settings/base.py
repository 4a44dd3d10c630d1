"""The base of every section of settings and the types that several sections use.

Frozen and strict: an unknown key, a number given as text or a value out of range is an error that
names its dotted path. Every number has bounds within which a trial can use it; none is infinite.
"""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

LARGEST_COUNT = 2**31 - 1
PositiveInt = Annotated[int, Field(gt=0, le=LARGEST_COUNT)]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
"""Nothing, or a PositiveInt."""
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
LARGEST_SEED = 2**64 - 1
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
"""What torch's generators take."""
Rate = Annotated[float, Field(gt=0.0, ge=1e-30, le=1e37)]
"""A positive number that float32 holds: a learning rate, a standard deviation. One that is far too
large ends a training as diverged.
"""
Texts = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]
"""A tuple of texts; a list from Python is taken too."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
"""Names folders, runs and models; two of them and a number still fit into a file's name."""


class Config(BaseModel):
    """Base of every section: frozen, strict, no unknown keys, attribute docstrings as
    descriptions.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )
