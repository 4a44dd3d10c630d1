"""A tiny random model of every listed model type, by one recipe: names that a type does not know it
ignores.
"""

from typing import Any

import torch

VOCABULARY, LAYERS, WINDOW = 97, 4, 6

RECIPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "intermediate_size_mlp": 40,
    "moe_intermediate_size": 24,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "local_attention": WINDOW,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,
    "attention_dropout": 0.0,
    "residual_dropout": 0.0,
}


def tiny_model(model_type: str, **changes: Any) -> Any:
    """A frozen base model in evaluation mode, always the same one."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **(RECIPE | changes))
    model = AutoModel.from_config(config)
    for name, parameter in model.named_parameters():
        if "sinks" in name or "norm" in name or name.endswith("bias"):
            with torch.no_grad():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False).eval()
