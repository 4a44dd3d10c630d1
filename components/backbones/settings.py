"""Settings of the frozen pretrained model: the section `backbone`."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator

from components.backbones.families import BACKBONES
from components.backbones.quantization import Asked
from components.settings import Config, FilePath, Fraction, one_of

MOST_POSITIONS, WIDEST_WINDOW = 131_072, 8_192
"""Of a lengthened checkpoint: its tables are made for all of them, its shortest document padded to
a window.
"""
OVERRIDABLE = (
    "rope_parameters max_position_embeddings sliding_window use_sliding_window layer_types "
    "attention_chunk_size local_attention"
).split()
"""Fields that change no weight's size and that people change to read longer documents."""


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
    quantization: Asked | None = None
    """Quantise the frozen linear layers while a plain checkpoint is read, by bitsandbytes: `nf4`
    (4.5 bits a weight) or `int8`. It costs accuracy and, on CPUs, time. Null: as stored; what is
    stored quantised needs no setting.
    """
    config_overrides: dict[str, Any] = Field(default_factory=dict)
    """Fields of config.json, of those that say how far a backbone reads, with other values:
    `{rope_parameters: {rope_type: yarn, factor: 4.0, rope_theta: 1e6,
    original_max_position_embeddings: 32768}}`, or `{sliding_window: null}` where the documents are
    shorter.
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

    @field_validator("config_overrides")
    @classmethod
    def _only_of_reach(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        for name in given:
            if name not in OVERRIDABLE:
                raise ValueError(f"'{name}' cannot be overridden; known: {', '.join(OVERRIDABLE)}")
        if not isinstance(given.get("rope_parameters", {}), dict):
            raise ValueError("rope_parameters are an object such as {rope_type: yarn, factor: 4.0}")
        if given and info.data.get("lengthen_to") is not None:
            raise ValueError("a lengthened checkpoint has a config.json of its own; remove it")
        return given

    @model_validator(mode="after")
    def _has_this_dropout(self) -> "BackboneConfig":
        if self.hidden_dropout is not None and BACKBONES[self.family].hidden_dropout is None:
            raise ValueError(
                f"hidden_dropout: the {self.family}s of this family have no such dropout; remove "
                "it (adapter.dropout and head.dropout are their own)"
            )
        return self
