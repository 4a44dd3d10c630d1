"""The sizes of a backbone that decide parameters and memory, read from its config.json.

The fact a newcomer gets wrong: Longformer has two sets of query, key and value projections per
layer, one for local and one for global rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.backbones import family_named
from components.errors import BackboneError


@dataclass(frozen=True)
class BackboneShape:
    """Sizes of one backbone; `parameters` counts the base model without any pooler or output
    layer.
    """

    model_type: str
    layers: int
    hidden: int
    feed_forward: int
    query_width: int
    """Attention heads x head size."""
    key_value_width: int
    """Key/value heads x head size: smaller than query_width with grouped-query attention."""
    heads: int
    positions: int
    """Usable ones: prefix and text together."""
    attention_window: int | None
    parameters: int
    trained_with_prefix: int
    """Backbone parameters that the method trains beside prefix and head: Longformer's token type
    embeddings.
    """

    @property
    def largest_layer(self) -> int:
        """Parameters of one layer, rounded up."""
        return -(-self.parameters // self.layers)


def backbone_shape(values: Mapping[str, Any]) -> BackboneShape:
    """Read the shape from config.json values. Raises BackboneError for a model type whose sizes are
    not known here.
    """
    kind = values.get("model_type")
    if kind == "longformer":
        return _longformer(values)
    if kind in {"llama", "mistral", "qwen2", "qwen3"}:
        return _decoder(values)
    raise BackboneError(
        f"No plan can be made for '{kind}' models: their sizes are not known. Known: longformer, "
        "llama, mistral, qwen2, qwen3."
    )


def _longformer(values: Mapping[str, Any]) -> BackboneShape:
    hidden, layers, wide = (
        values["hidden_size"],
        values["num_hidden_layers"],
        values["intermediate_size"],
    )
    types = values.get("type_vocab_size", 2)
    embeddings = (
        values["vocab_size"] + values["max_position_embeddings"] + types
    ) * hidden + 2 * hidden
    attention = (
        7 * (hidden + 1) * hidden + 2 * hidden
    )  # local and global q, k, v, the output, and a layer norm
    feed_forward = (hidden + 1) * wide + (wide + 1) * hidden + 2 * hidden
    window = values["attention_window"]
    return BackboneShape(
        model_type="longformer",
        layers=layers,
        hidden=hidden,
        feed_forward=wide,
        query_width=hidden,
        key_value_width=hidden,
        heads=values["num_attention_heads"],
        positions=family_named("longformer").usable_positions(values),
        attention_window=max(window) if isinstance(window, list | tuple) else window,
        parameters=embeddings + layers * (attention + feed_forward),
        trained_with_prefix=types * hidden,
    )


def _decoder(values: Mapping[str, Any]) -> BackboneShape:
    hidden, layers, wide = (
        values["hidden_size"],
        values["num_hidden_layers"],
        values["intermediate_size"],
    )
    kind, heads = values["model_type"], values["num_attention_heads"]
    size = values.get("head_dim") or hidden // heads
    query, key_value = heads * size, (values.get("num_key_value_heads") or heads) * size
    attention_bias = values.get("attention_bias", False)
    biases = (query + 2 * key_value) * (kind == "qwen2" or attention_bias) + hidden * (
        kind != "qwen2" and attention_bias
    )
    attention = (
        hidden * (query + 2 * key_value) + query * hidden + biases + 2 * size * (kind == "qwen3")
    )
    feed_forward = 3 * hidden * wide + (2 * wide + hidden) * bool(values.get("mlp_bias", False))
    return BackboneShape(
        model_type=kind,
        layers=layers,
        hidden=hidden,
        feed_forward=wide,
        query_width=query,
        key_value_width=key_value,
        heads=heads,
        positions=family_named("decoder").usable_positions(values),
        attention_window=None,
        parameters=values["vocab_size"] * hidden
        + layers * (attention + feed_forward + 2 * hidden)
        + hidden,
        trained_with_prefix=0,
    )
