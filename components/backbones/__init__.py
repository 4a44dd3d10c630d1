"""Frozen backbones: stock transformers base models, their families and sources.

`BACKBONES` is the table of families; components/README.md says how to add one.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.backbones.sources import (
    backbone_folder,
    checkpoint_folder,
    load_backbone,
    load_tokenizer,
    read_backbone_config,
    tokenizer_files,
    tokenizer_id,
)
from components.errors import BackboneError

if TYPE_CHECKING:
    from components.backbones.family import BackboneFamily

BACKBONES = {
    "longformer": "components.backbones.longformer.family:LONGFORMER",
    "decoder": "components.backbones.decoder:DECODER",
}


def family_named(name: str) -> "BackboneFamily":
    """The family listed under `name` in `BACKBONES`."""
    from importlib import import_module

    module, attribute = BACKBONES[name].split(":")
    family: BackboneFamily = getattr(import_module(module), attribute)
    return family


def family_of(backbone: Any) -> "BackboneFamily":
    """The family of a loaded base model. Raises BackboneError where none reads it."""
    kind = backbone.config.model_type
    for name in BACKBONES:
        family = family_named(name)
        if kind in family.model_types:
            family.check_supported(backbone.config.to_dict())
            return family
    known = ", ".join(kind for name in BACKBONES for kind in family_named(name).model_types)
    raise BackboneError(f"No backbone family reads '{kind}' models. Known model types: {known}.")


def check_positions(
    family: "BackboneFamily", config: Mapping[str, Any], *, max_tokens: int, prefix_length: int
) -> None:
    """Raise BackboneError where text and prefix together need more positions than the backbone with
    this config.json has.
    """
    needed, usable = max_tokens + prefix_length, family.usable_positions(config)
    if needed > usable:
        lengthen = ", or raise backbone.lengthen_to" if family.name == "longformer" else ""
        raise BackboneError(
            f"data.max_tokens {max_tokens} + adapter.prefix_length {prefix_length} = {needed} "
            f"positions, but the backbone has {usable}. "
            f"Lower data.max_tokens or adapter.prefix_length{lengthen}."
        )


__all__ = [
    "BACKBONES",
    "backbone_folder",
    "check_positions",
    "checkpoint_folder",
    "family_named",
    "family_of",
    "load_backbone",
    "load_tokenizer",
    "read_backbone_config",
    "tokenizer_files",
    "tokenizer_id",
]
