"""Settings of the frozen pretrained model: the section `backbone`."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator

from components.backbones.families import BACKBONES
from components.settings import Config, FilePath, Fraction, one_of

MOST_POSITIONS, WIDEST_WINDOW = 131_072, 8_192
"""Of a lengthened checkpoint: its tables are made for all of them, its shortest document padded to
a window.
"""


class BackboneConfig(Config):
    """The frozen pretrained model."""

    source: Literal["hub", "local", "installed"] = "hub"
    """Where the weights come from: a hub id, a local folder, or an installed Python package that
    carries them (no hub needed).
    """
    name_or_path: Annotated[str, Field(min_length=1)]
    """Hub id, folder, or for `installed` the name of the model: `all-MiniLM-L6-v2`."""
    revision: str | None = None
    """Hub commit, tag or branch; null takes the default branch. Only for `hub`."""
    family: Annotated[str, one_of("backbone.family", lambda: BACKBONES)]
    """Which backbone family reads it (components/backbones)."""
    lengthen_to: Annotated[int, Field(gt=0, le=MOST_POSITIONS)] | None = None
    """Turn a BERT or RoBERTa checkpoint into a Longformer with this many positions (tokens). Null:
    load as it is.
    """
    attention_window: Annotated[int, Field(gt=0, le=WIDEST_WINDOW, multiple_of=2)] = 256
    """Width of the local attention window in tokens (both sides together). Only read with
    `lengthen_to`.
    """
    attention: Literal["auto", "stock"] = "auto"
    """`auto`: the fastest exact attention for this machine; `stock`: the transformers
    implementation as it is.
    """
    hidden_dropout: Fraction | None = None
    """Dropout probability inside the frozen backbone's layers while training; null keeps the
    checkpoint's own.
    """
    attention_dropout: Fraction | None = None
    """Dropout probability on attention weights while training; null keeps the checkpoint's own."""

    @field_validator("name_or_path")
    @classmethod
    def _expanded(cls, given: str, info: ValidationInfo) -> str:
        if info.data.get("source") != "local":
            return given
        return TypeAdapter[str](FilePath).validate_python(given)

    @model_validator(mode="after")
    def _has_this_dropout(self) -> "BackboneConfig":
        if self.hidden_dropout is not None and BACKBONES[self.family].hidden_dropout is None:
            raise ValueError(
                f"hidden_dropout: the {self.family}s of this family have no such dropout; remove "
                "it (adapter.dropout and head.dropout are their own)"
            )
        return self
