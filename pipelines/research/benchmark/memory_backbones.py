"""Sizes of the backbones of the memory benchmark, as their config.json tells them: 40M to 270M
parameters, so that the device part is far above what a process takes by itself.
"""

from typing import Any

VOCABULARY = 30_522
LONGFORMER: dict[str, Any] = {
    "model_type": "longformer",
    "vocab_size": VOCABULARY,
    "hidden_size": 768,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "attention_window": [256] * 8,
    "max_position_embeddings": 4610,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.0,
}
DECODER: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 2816,
    "max_position_embeddings": 8192,
    "pad_token_id": 0,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "longformer": LONGFORMER,
    "small_longformer": {
        **LONGFORMER,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "num_hidden_layers": 6,
        "attention_window": [256] * 6,
    },
    "decoder": DECODER,
    "small_decoder": {
        **DECODER,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "intermediate_size": 1408,
    },
    "large_decoder": {**DECODER, "num_hidden_layers": 20},
}
