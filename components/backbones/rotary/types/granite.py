"""Granite: Llama with multipliers."""

from components.backbones.rotary.model_type import ModelType

GRANITE = ModelType("granite")
