"""A causal decoder of the Llama form with every adapter method, naively: float64, one row and one
head at a time, only real tokens.

Shapes: P prefix, S rows of one document, D hidden, L layers, H query heads, E head size. RoPE in
the rotate-half form.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from tests.components.adapters.dense_longformer import (
    Parts,
    scaled_columns,
    scaled_weight,
    smoothed,
)


def dense_decoder(state: dict[str, Tensor], config: Any, ids: list[int], parts: Parts) -> Tensor:
    """Last hidden states (S, D) of one document: prefix rows (where the method has any), text rows,
    suffix rows.
    """
    rows = 0 if parts.prefix_LPD is None and parts.prompt_PD is None else parts.offset
    width = config.hidden_size
    words = [
        torch.zeros(width, dtype=torch.float64) if parts.prompt_PD is None else parts.prompt_PD[row]
        for row in range(rows)
    ]
    nothing = [torch.zeros(width, dtype=torch.float64)] * parts.after
    hidden_SD = torch.stack(
        words + [state["embed_tokens.weight"][token] for token in ids] + nothing
    )
    positions = list(range(rows)) + [
        parts.offset + index for index in range(len(ids) + parts.after)
    ]
    for layer in range(config.num_hidden_layers):
        if parts.prefix_LPD is not None:
            hidden_SD = torch.cat([hidden_SD[:rows] + parts.prefix_LPD[layer], hidden_SD[rows:]])
        if parts.suffix_LPD is not None:
            hidden_SD = torch.cat(
                [hidden_SD[: -parts.after], hidden_SD[-parts.after :] + parts.suffix_LPD[layer]]
            )
        name = f"layers.{layer}."
        normed_SD = _rms(hidden_SD, state[name + "input_layernorm.weight"], config)
        mixed_SD = _attention(
            state, name + "self_attn.", config, normed_SD, positions, layer, parts
        )
        out = scaled_weight(state[name + "self_attn.o_proj.weight"], parts, layer, 0)
        hidden_SD = hidden_SD + mixed_SD @ out.T
        normed_SD = _rms(hidden_SD, state[name + "post_attention_layernorm.weight"], config)
        gate = scaled_columns(state[name + "mlp.gate_proj.weight"], parts, layer, 1)
        up = scaled_weight(state[name + "mlp.up_proj.weight"], parts, layer, 1)
        down = scaled_weight(state[name + "mlp.down_proj.weight"], parts, layer, 2)
        hidden_SD = hidden_SD + (silu(normed_SD @ gate.T) * (normed_SD @ up.T)) @ down.T
    return _rms(hidden_SD, state["norm.weight"], config)


def _attention(
    state: dict[str, Tensor],
    name: str,
    config: Any,
    hidden_SD: Tensor,
    positions: list[int],
    layer: int,
    parts: Parts,
) -> Tensor:
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    query = (hidden_SD @ state[name + "q_proj.weight"].T).view(-1, heads, size)
    key = (hidden_SD @ state[name + "k_proj.weight"].T).view(-1, key_heads, size)
    value = (hidden_SD @ state[name + "v_proj.weight"].T).view(-1, key_heads, size)
    if name + "q_norm.weight" in state:
        query, key = (
            _rms(query, state[name + "q_norm.weight"], config),
            _rms(key, state[name + "k_norm.weight"], config),
        )
    theta = config.rope_parameters["rope_theta"]
    rotated = torch.stack(
        [
            torch.stack(
                [_rotate(key[row, head], positions[row], theta) for head in range(key_heads)]
            )
            for row in range(len(hidden_SD))
        ]
    )
    mixed = []
    for row in range(len(hidden_SD)):
        for head in range(heads):
            shared = head // (heads // key_heads)
            own = slice(shared * size, (shared + 1) * size)
            query_E = _rotate(query[row, head], positions[row], theta)
            key_KE, value_KE = rotated[: row + 1, shared], value[: row + 1, shared]
            extra_E: Any = 0.0
            if parts.key_LPD is not None and parts.value_LPD is not None:
                key_PE, value_PE = parts.key_LPD[layer, :, own], parts.value_LPD[layer, :, own]
                if parts.kernel is None:
                    key_KE, value_KE = torch.cat([key_PE, key_KE]), torch.cat([value_PE, value_KE])
                else:
                    extra_E = smoothed(parts, layer, query[row, head], key_PE, value_PE)
            if parts.memory_LHEE is not None:
                extra_E = (torch.nn.functional.elu(query[row, head]) + 1) @ parts.memory_LHEE[
                    layer, head
                ]
            mixed.append(torch.softmax(key_KE @ query_E / math.sqrt(size), 0) @ value_KE + extra_E)
    return torch.stack(mixed).view(len(hidden_SD), heads * size)


def _rotate(x_E: Tensor, position: int, theta: float) -> Tensor:
    half = len(x_E) // 2
    angles = torch.tensor(
        [position * theta ** (-2 * index / len(x_E)) for index in range(half)], dtype=torch.float64
    )
    first, second = x_E[:half], x_E[half:]
    return torch.cat(
        [first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()]
    )


def _rms(x: Tensor, weight: Tensor, config: Any) -> Tensor:
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + config.rms_norm_eps) * weight
