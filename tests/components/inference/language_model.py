"""The folder of an adapter on a tiny language model, with a random prefix of 3."""

from pathlib import Path
from typing import Any

import torch

from components.adapters import (
    AdaptedModel,
    LanguageModellingHeadConfig,
    PrefixPropagationConfig,
    adapt,
    save_adapter,
)
from components.backbones import BackboneConfig, load_backbone
from components.settings import resolved
from tests.conftest import build_tiny_decoder
from tests.registry_fixtures import tiny_tokenizer


def language_model_adapter(
    place: Path, *, max_tokens: int, cutting: dict[str, Any], ends: bool = True
) -> tuple[AdaptedModel, Any, Path]:
    """The live model, its tokenizer and its folder. `ends`: whether a token ends a text."""
    tokenizer = tiny_tokenizer(pad_id=0)
    changes: dict[str, Any] = {}
    if not ends:
        tokenizer.eos_token, changes = None, {"eos_token_id": None}
    tied = build_tiny_decoder(
        initializer_range=0.3, tie_word_embeddings=True, vocab_size=25, **changes
    )
    tied.save_pretrained(place / "backbone")
    tokenizer.save_pretrained(place / "backbone")
    source = BackboneConfig(source="local", name_or_path=str(place / "backbone"), family="decoder")
    method = PrefixPropagationConfig(prefix_length=3, init_std=0.5)
    torch.manual_seed(1)
    model = adapt(load_backbone(source, cache_path=place), method, LanguageModellingHeadConfig())
    folder = save_adapter(
        model,
        place / "adapter",
        training={"max_tokens": max_tokens, **cutting},
        backbone_id={"load": resolved(source)},
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return model, tokenizer, folder
