"""How large everything is: on a GPU as people have it, and small enough for a CPU, where the same
code is tried before a GPU is lent.

The fact a newcomer gets wrong: `small` answers nothing about speed. It shows that no part breaks.
"""

from dataclasses import dataclass, replace
from typing import Any

LONGFORMER_BASE: dict[str, Any] = {
    "vocab_size": 50265,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "attention_window": 512,
    "max_position_embeddings": 4352,
    "pad_token_id": 1,
    "type_vocab_size": 1,
    "hidden_dropout_prob": 0.0,
}
LLAMA_8B: dict[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 2**20,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Sizes:
    """Values of the two backbones' config.json, and tokens. `parity_layers`, `parity_tokens`: of
    the comparisons with float32 on the CPU, whose time the CPU decides; `compared_layers`: of the
    decoder beside PEFT, without checkpointing; `longest`: the first context tried, doubled until
    one does not fit.
    """

    longformer: dict[str, Any]
    decoder: dict[str, Any]
    parity_layers: int = 2
    parity_tokens: int = 1024
    longformer_tokens: int = 4096
    longformer_batches: tuple[int, ...] = (1, 8)
    decoder_tokens: int = 16384
    compared_layers: int = 16
    longest_from: int = 32768
    longest_up_to: int = 2**19
    tile_rows: int = 8192
    prefix_length: int = 8
    steps: int = 3


FULL = Sizes(longformer=LONGFORMER_BASE, decoder=LLAMA_8B)
SMALL = replace(
    FULL,
    longformer=LONGFORMER_BASE
    | {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "attention_window": 32,
        "max_position_embeddings": 400,
    },
    decoder=LLAMA_8B
    | {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    parity_tokens=150,
    longformer_tokens=200,
    longformer_batches=(1, 2),
    decoder_tokens=128,
    compared_layers=2,
    longest_from=64,
    longest_up_to=256,
    tile_rows=32,
    steps=1,
)
