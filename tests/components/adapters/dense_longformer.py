"""Longformer with every adapter method, as naively as it can be written: float64, one row and one
head at a time, no padding (only real tokens exist), O(S^2).

Shares nothing with the project's code: it reads a state dict, token ids and plain tensors. Shapes:
P prefix, S rows of one document, D hidden, L layers, H heads, E head size.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm


@dataclass(frozen=True)
class Parts:
    """What a method adds; None leaves it out. `offset`: positions that the text is moved by."""

    offset: int = 0
    prefix_LPD: Tensor | None = None
    prompt_PD: Tensor | None = None
    key_LPD: Tensor | None = None
    value_LPD: Tensor | None = None
    released_rows: int = 0
    """Text rows after the first that take the global path as queries (the release's indexing)."""
    kernel: str | None = None
    alpha_L: Tensor | None = None
    lengthscale: float = 1.0
    memory_LHEE: Tensor | None = None
    scales: tuple[Tensor, Tensor, Tensor] | None = None
    """Of the outputs of the attention's projection (L, D), of up or fc1 (L, F) and of down or fc2
    (L, D); the first two are multiplied onto the columns of what takes them, too.
    """
    suffix_LPD: Tensor | None = None
    """Rows after the text, which see it and which it does not see; in Longformer at positions 0, 1,
    ..., as global rows.
    """
    global_text: int = 1
    """Text rows, from the first on, that every row sees and that see every row."""
    prefix_shares: dict[tuple[int, int, int], float] | None = None
    """Filled, where given, with (layer, row, head) -> the attention weights of the prefix's keys
    added up.
    """

    @property
    def after(self) -> int:
        """Rows after the text."""
        return 0 if self.suffix_LPD is None else self.suffix_LPD.shape[1]


def dense_longformer(state: dict[str, Tensor], config: Any, ids: list[int], parts: Parts) -> Tensor:
    """Last hidden states (S, D) of one document: prefix rows (where the method has any), text rows,
    rows that read the text.
    """
    rows = 0 if parts.prefix_LPD is None and parts.prompt_PD is None else parts.offset
    pad, width = config.pad_token_id, config.hidden_size
    words_SD = [
        torch.zeros(width, dtype=torch.float64) if parts.prompt_PD is None else parts.prompt_PD[row]
        for row in range(rows)
    ]
    words_SD += [state["embeddings.word_embeddings.weight"][token] for token in ids]
    words_SD += [torch.zeros(width, dtype=torch.float64)] * parts.after
    positions = list(range(rows)) + [parts.offset + pad + 1 + index for index in range(len(ids))]
    positions += range(parts.after)
    hidden_SD = (
        torch.stack(words_SD)
        + state["embeddings.position_embeddings.weight"][positions]
        + state["embeddings.token_type_embeddings.weight"][0]
    )
    hidden_SD = _norm(state, "embeddings.LayerNorm", hidden_SD, config)
    for layer in range(config.num_hidden_layers):
        if parts.prefix_LPD is not None:
            hidden_SD = torch.cat([hidden_SD[:rows] + parts.prefix_LPD[layer], hidden_SD[rows:]])
        if parts.suffix_LPD is not None:
            changed_PD = hidden_SD[-parts.after :] + parts.suffix_LPD[layer]
            hidden_SD = torch.cat([hidden_SD[: -parts.after], changed_PD])
        name = f"encoder.layer.{layer}."
        mixed_SD = _attention(
            state, name + "attention.self.", config, hidden_SD, layer, rows, parts
        )
        hidden_SD = _norm(
            state,
            name + "attention.output.LayerNorm",
            _scaled(state, name + "attention.output.dense", mixed_SD, parts, layer, 0) + hidden_SD,
            config,
        )
        wide_SI = gelu(_scaled(state, name + "intermediate.dense", hidden_SD, parts, layer, 1))
        hidden_SD = _norm(
            state,
            name + "output.LayerNorm",
            _scaled(state, name + "output.dense", wide_SI, parts, layer, 2) + hidden_SD,
            config,
        )
    return hidden_SD


def _attention(
    state: dict[str, Tensor],
    name: str,
    config: Any,
    hidden_SD: Tensor,
    layer: int,
    rows: int,
    parts: Parts,
) -> Tensor:
    heads, reach = config.num_attention_heads, config.attention_window[layer] // 2
    size, count = config.hidden_size // heads, len(hidden_SD)
    global_keys = set(range(rows + parts.global_text))
    global_queries = global_keys | set(range(rows, min(count, rows + 1 + parts.released_rows)))
    projected = {
        kind: _linear(state, name + kind, hidden_SD).view(count, heads, size)
        for kind in ("query", "key", "value", "query_global", "key_global", "value_global")
    }
    decomposed = parts.kernel is not None and parts.prefix_LPD is not None
    mixed = []
    for row in range(count):
        behind = row >= count - parts.after
        twin = "_global" if row in global_queries or behind else ""
        seen = [
            other
            for other in range(count if behind else count - parts.after)
            if twin or other in global_keys or abs(row - other) <= reach
        ]
        if decomposed:
            seen = [other for other in seen if other >= rows]
        for head in range(heads):
            query_E, key_SE, value_SE = (
                projected[kind + twin][:, head] for kind in ("query", "key", "value")
            )
            query_E = query_E[row]
            key_KE, value_KE = key_SE[seen], value_SE[seen]
            own = slice(head * size, (head + 1) * size)
            extra_E: Any = 0.0
            if parts.key_LPD is not None and parts.value_LPD is not None:
                key_PE, value_PE = parts.key_LPD[layer, :, own], parts.value_LPD[layer, :, own]
                if parts.kernel is None:
                    key_KE, value_KE = torch.cat([key_PE, key_KE]), torch.cat([value_PE, value_KE])
                else:
                    extra_E = smoothed(parts, layer, query_E, key_PE, value_PE)
            if decomposed:
                extra_E = smoothed(parts, layer, query_E, key_SE[:rows], value_SE[:rows])
            if parts.memory_LHEE is not None:
                extra_E = (torch.nn.functional.elu(query_E) + 1) @ parts.memory_LHEE[layer, head]
            weights_K = torch.softmax(key_KE @ query_E / math.sqrt(size), 0)
            if parts.prefix_shares is not None:
                of_prefix = (
                    len(parts.key_LPD[layer])
                    if parts.key_LPD is not None
                    else sum(other < rows for other in seen)
                )
                parts.prefix_shares[layer, row, head] = float(weights_K[:of_prefix].detach().sum())
            mixed.append(weights_K @ value_KE + extra_E)
    return torch.stack(mixed).view(count, heads * size)


def smoothed(parts: Parts, layer: int, query_E: Tensor, key_PE: Tensor, value_PE: Tensor) -> Tensor:
    """alpha x the prefix's values, weighted by the kernel under a normaliser of their own."""
    assert parts.alpha_L is not None and parts.kernel is not None
    weights_P = kernel(parts.kernel, query_E, key_PE, parts.lengthscale)
    return parts.alpha_L[layer] * (weights_P @ value_PE) / weights_P.sum()


def kernel(kind: str, query_E: Tensor, key_PE: Tensor, lengthscale: float) -> Tensor:
    """K'(q, k), unnormalised, for every key."""
    if kind == "exp":
        return torch.exp(key_PE @ query_E / math.sqrt(len(query_E)))
    if kind == "rbf":
        return torch.exp(-((query_E - key_PE) ** 2).sum(-1) / (2 * lengthscale**2))
    assert kind == "polynomial"
    return (key_PE @ query_E / math.sqrt(len(query_E)) + 1) ** 2


def dense_head(head: dict[str, Tensor], pooled_D: Tensor) -> Tensor:
    """out_proj(tanh(dense(h))), or out_proj(h) where the head has no dense layer."""
    hidden_D = pooled_D
    if "head.dense.weight" in head:
        hidden_D = torch.tanh(pooled_D @ head["head.dense.weight"].T + head["head.dense.bias"])
    return hidden_D @ head["head.out_proj.weight"].T + head["head.out_proj.bias"]


def _linear(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ state[name + ".weight"].T + state[name + ".bias"]


def _scaled(
    state: dict[str, Tensor], name: str, x: Tensor, parts: Parts, layer: int, place: int
) -> Tensor:
    """The linear module at this place of the chain, its weights scaled."""
    weight, bias = state[name + ".weight"], state[name + ".bias"]
    weight = scaled_weight(weight, parts, layer, place)
    return x @ weight.T + scaled_rows(bias, parts, layer, place)


def scaled_weight(weight: Tensor, parts: Parts, layer: int, place: int) -> Tensor:
    """Rows by the scale of this place, columns by that of the place before."""
    return scaled_rows(scaled_columns(weight, parts, layer, place), parts, layer, place)


def scaled_rows(rows: Tensor, parts: Parts, layer: int, place: int) -> Tensor:
    """A weight (out, in) or a bias (out)."""
    if parts.scales is None:
        return rows
    factors = parts.scales[place][layer]
    return torch.stack([row * factor for row, factor in zip(rows, factors, strict=True)])


def scaled_columns(weight: Tensor, parts: Parts, layer: int, place: int) -> Tensor:
    """A weight (out, in); nothing stands before place 0."""
    if parts.scales is None or place == 0:
        return weight
    return scaled_rows(weight.T, parts, layer, place - 1).T


def _norm(state: dict[str, Tensor], name: str, x: Tensor, config: Any) -> Tensor:
    return layer_norm(
        x, (x.shape[-1],), state[name + ".weight"], state[name + ".bias"], config.layer_norm_eps
    )
