"""Llama, and the many models that call themselves so."""

from components.backbones.rotary.model_type import ModelType

LLAMA = ModelType("llama")
