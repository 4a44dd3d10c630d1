"""What every test shares: one torch thread, no hub, tiny backbones made on the spot."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from typing import Any

import pytest


def build_tiny_longformer(**changes: Any) -> Any:
    """A random LongformerModel: D=32, L=2, 4 heads, window 8, dropout 0 unless overridden."""
    import torch
    from transformers import LongformerConfig, LongformerModel

    torch.manual_seed(0)
    values: dict[str, Any] = {
        "vocab_size": 101,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "attention_window": [8, 8],
        "max_position_embeddings": 140,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return LongformerModel(LongformerConfig(**(values | changes)), add_pooling_layer=False).eval()


def build_tiny_decoder(kind: str = "llama", **changes: Any) -> Any:
    """A random LlamaModel (or `kind="qwen3"`): D=32, L=2, 4 heads, 2 key/value heads."""
    import torch
    from transformers import LlamaConfig, LlamaModel, Qwen3Config, Qwen3Model

    torch.manual_seed(0)
    values: dict[str, Any] = {
        "vocab_size": 101,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 140,
        "pad_token_id": 0,
    }
    if kind == "qwen3":
        return Qwen3Model(Qwen3Config(head_dim=8, **(values | changes))).eval()
    return LlamaModel(LlamaConfig(**(values | changes))).eval()


@pytest.fixture
def tiny_longformer() -> Callable[..., Any]:
    return build_tiny_longformer


@pytest.fixture
def tiny_decoder() -> Callable[..., Any]:
    return build_tiny_decoder
