"""Attention masks of rotary backbones, made by transformers: what a layer needs beyond "causal",
and nothing else.

The facts a newcomer gets wrong: behind a causal mask right padding needs no mask at all, because no
real row sees what comes after it; and a sliding window would lose the prefix with distance, so in
local layers every row sees the prefix rows too.
Shapes: B batch, S rows, D hidden.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from components.backbones.rotary.model_type import ModelType, Values
from components.backbones.rotary.sizes import LOCAL, layer_kinds

if TYPE_CHECKING:
    from torch import Tensor

    from components.backbones.readers import Reading

Mask = Any
"""None, a tensor (B, 1, S, S) or a BlockMask, as the backbone's attention takes it."""
Seen = Callable[[Any, Any, Any, Any], Any]
"""(example, head, query row, key row) -> whether the row is seen."""


def causal_masks(
    kind: ModelType, config: Any, embeddings_BSD: "Tensor", *, prefix_rows: int
) -> Mask | dict[str, Mask]:
    """What a decoder takes as `attention_mask`: padding stands behind every real row."""
    from transformers import masking_utils

    common: dict[str, Any] = {
        "config": config,
        "inputs_embeds": embeddings_BSD[:1],  # one mask for all examples
        "attention_mask": None,
        "past_key_values": None,
    }

    def before(example: Any, head: Any, query: Any, key: Any) -> Any:
        return (key < prefix_rows) & (key <= query)

    def mask(layer: str) -> Mask:
        if layer not in LOCAL or embeddings_BSD.shape[1] <= _reach(config, layer):
            return masking_utils.create_causal_mask(**common)
        make = (
            masking_utils.create_sliding_window_causal_mask
            if layer == "sliding_attention"
            else masking_utils.create_chunked_causal_mask
        )
        return make(**common, or_mask_function=before if prefix_rows else None)

    return _of_layers(kind, config, mask)


def bidirectional_masks(
    kind: ModelType,
    config: Any,
    embeddings_BSD: "Tensor",
    attention_mask_BS: "Tensor",
    *,
    prefix_rows: int,
) -> Mask | dict[str, Mask]:
    """What an encoder takes: padding is hidden from every row, prefix rows see all and are seen."""
    from transformers import masking_utils

    common: dict[str, Any] = {
        "config": config,
        "inputs_embeds": embeddings_BSD,
        "attention_mask": attention_mask_BS,
    }

    def both_ways(example: Any, head: Any, query: Any, key: Any) -> Any:
        return (key < prefix_rows) | (query < prefix_rows)

    def mask(layer: str) -> Mask:
        if layer not in LOCAL or embeddings_BSD.shape[1] <= _reach(config, layer):
            return masking_utils.create_bidirectional_mask(**common)
        return masking_utils.create_bidirectional_sliding_window_mask(
            **common, or_mask_function=both_ways if prefix_rows else None
        )

    return _of_layers(kind, config, mask)


def masks_behind_text(
    kind: ModelType, config: Any, readings: "Sequence[Reading]", like: "Tensor"
) -> Mask | dict[str, Mask]:
    """What rows behind texts take, as numbers that are added to scores of like's dtype. A decoder's
    rows see what precedes them, in local layers as far as these reach; an encoder's see the text
    and each other in every layer.
    """
    from components.backbones.text_states import mask_behind_text

    def sees(layer: str) -> Callable[["Tensor", "Tensor"], Any]:
        def before(row: "Tensor", key: "Tensor") -> Any:
            return key <= row

        def near(row: "Tensor", key: "Tensor") -> Any:
            if layer == "sliding_attention":
                return (key <= row) & (row - key < _reach(config, layer))
            width = _reach(config, layer)
            return (key <= row) & (row // width == key // width)

        if not kind.is_causal:
            return lambda row, key: row >= 0
        return near if layer in LOCAL else before

    return _of_layers(
        kind, config, lambda layer: mask_behind_text(readings, like, sees=sees(layer))
    )


def hides_prefix(kind: ModelType, config: Values, positions: int) -> str | None:
    """The field of config.json by which local layers of the stock model hide a prefix from some of
    so many rows; None: they show it to all.
    """
    values = kind.complete(config)
    kinds = layer_kinds(kind, values)
    for each, name in zip(LOCAL, (kind.window, "attention_chunk_size"), strict=True):
        if each in kinds and values[name] < positions:
            return name
    return None


def _of_layers(kind: ModelType, config: Any, mask: Callable[[str], Mask]) -> Any:
    kinds = layer_kinds(kind, vars(config))
    if kind.masks_by_layer:
        return {layer: mask(layer) for layer in sorted(set(kinds))}
    return mask(kinds[0])


def _reach(config: Any, layer: str) -> int:
    """Rows that a local layer's rows see at most, themselves among them; of an encoder on one
    side.
    """
    name = "sliding_window" if layer == "sliding_attention" else "attention_chunk_size"
    return int(getattr(config, name))
