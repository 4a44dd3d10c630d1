"""Gemma."""

from components.backbones.rotary.model_type import ModelType

GEMMA = ModelType("gemma", defaults={"head_dim": 256})
