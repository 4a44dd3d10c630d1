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
from components.backbones.inspection import inspect_backbone
from components.backbones.licence import licence
from components.backbones.loading import backbone_folder, load_backbone, weights_sha256
from components.backbones.quantization import (
    kind_in_memory,
    quantization_fault,
    quantization_of,
)
from components.backbones.settings import BackboneConfig
from components.backbones.shape import BackboneShape
from components.backbones.sources import checkpoint_folder, packages, read_backbone_config
from components.backbones.stored_precision import stored_precision
from components.backbones.tokenizer import (
    load_tokenizer,
    read_tokenizer,
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
    "inspect_backbone",
    "kind_in_memory",
    "licence",
    "load_backbone",
    "load_tokenizer",
    "packages",
    "quantization_fault",
    "quantization_of",
    "read_backbone_config",
    "read_tokenizer",
    "stored_precision",
    "tokenizer_files",
    "tokenizer_id",
    "weights_sha256",
]
