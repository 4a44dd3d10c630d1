"""The table of backbone families. It is read when a family is asked for, so that an entry added
while a program runs is known everywhere at once.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from components.backbones.family import BackboneFamily
from components.backbones.longformer.family import LONGFORMER
from components.backbones.quantization import quantization_of
from components.backbones.rotary.family import DECODER, ENCODER
from components.backbones.shape import BackboneShape
from components.errors import BackboneError

BACKBONES: dict[str, BackboneFamily] = {
    "longformer": LONGFORMER,
    "decoder": DECODER,
    "encoder": ENCODER,
}
"""Value of backbone.family -> everything that is known of the family; its file holds all of it."""


def family_named(name: str) -> BackboneFamily:
    """The family listed under `name`. Raises BackboneError for a name that is not listed."""
    if name not in BACKBONES:
        raise BackboneError(f"backbone.family '{name}' is unknown. Known: {', '.join(BACKBONES)}.")
    return BACKBONES[name]


def family_of(backbone: Any) -> BackboneFamily:
    """The family of a loaded base model. Raises BackboneError where none reads it."""
    family = _family_of_type(backbone.config.model_type)
    family.check_supported(backbone.config.to_dict())
    return family


def backbone_shape(values: Mapping[str, Any]) -> BackboneShape:
    """The sizes in a config.json. Raises BackboneError for a model type that no family reads:
    another family's formulas would be wrong for it.
    """
    shape = _family_of_type(str(values.get("model_type"))).shape(values)
    dtype = str(values.get("dtype") or values.get("torch_dtype"))
    quantization = quantization_of(values)
    return replace(
        shape,
        stored_bytes=2 if dtype.endswith("bfloat16") else 4,
        linear_bits=None if quantization is None else quantization.bits,
        linear_inputs_kept=quantization is not None and quantization.keeps_inputs,
    )


def _family_of_type(model_type: str) -> BackboneFamily:
    for family in BACKBONES.values():
        if model_type in family.model_types:
            return family
    known = ", ".join(kind for family in BACKBONES.values() for kind in family.model_types)
    raise BackboneError(
        f"No backbone family reads '{model_type}' models. Known model types: {known}. What "
        "a new one takes stands in components/backbones/README.md."
    )


def check_positions(
    family: BackboneFamily, config: Mapping[str, Any], *, max_tokens: int, prefix_length: int
) -> None:
    """Raise BackboneError where text and prefix together need more positions than the backbone with
    this config.json has.
    """
    needed, usable = max_tokens + prefix_length, family.usable_positions(config)
    if needed > usable:
        more = f", or {family.more_positions}" if family.more_positions else ""
        raise BackboneError(
            f"data.max_tokens {max_tokens} + adapter.prefix_length {prefix_length} = {needed} "
            f"positions, but the backbone has {usable}. "
            f"Lower data.max_tokens or adapter.prefix_length{more}."
        )
