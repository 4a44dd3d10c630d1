"""Frozen backbones: stock transformers base models, their families and sources.

`BACKBONES` is the table of families; components/README.md says how to add one.
"""

from components.backbones.families import (
    BACKBONES,
    backbone_shape,
    check_positions,
    family_named,
    family_of,
)
from components.backbones.family import BackboneFamily
from components.backbones.settings import BackboneConfig
from components.backbones.shape import BackboneShape
from components.backbones.sources import (
    backbone_folder,
    checkpoint_folder,
    load_backbone,
    load_tokenizer,
    packages,
    read_backbone_config,
    tokenizer_files,
    tokenizer_id,
)

__all__ = [
    "BACKBONES",
    "BackboneConfig",
    "BackboneFamily",
    "BackboneShape",
    "backbone_folder",
    "backbone_shape",
    "check_positions",
    "checkpoint_folder",
    "family_named",
    "family_of",
    "load_backbone",
    "load_tokenizer",
    "packages",
    "read_backbone_config",
    "tokenizer_files",
    "tokenizer_id",
]
