"""GPT-NeoX and Pythia: query, key and value of each head side by side in one module."""

from typing import TYPE_CHECKING, Any

from components.backbones.rotary.feed_forward import plain
from components.backbones.rotary.model_type import Biases, ModelType, Values, equal_heads

if TYPE_CHECKING:
    from torch import Tensor


def query(output_BSW: "Tensor", attention: Any) -> "Tensor":
    """The first third of every head."""
    by_head_BSH3E = output_BSW.unflatten(-1, (-1, 3 * attention.head_size))
    return by_head_BSH3E[..., : attention.head_size]


def biases(values: Values) -> Biases:
    """As `attention_bias` says, which is on unless it is switched off."""
    biased = bool(values.get("attention_bias", True))
    return Biases(biased, biased)


GPT_NEOX = ModelType(
    "gpt_neox",
    attention="attention",
    heads=equal_heads,
    queries=(("query_key_value", query),),
    output="dense",
    cache_argument="layer_past",
    lora_targets=("query_key_value",),
    projections=lambda hidden, heads: {
        "query_key_value": (hidden, 3 * hidden),
        "dense": (hidden, hidden),
    },
    biases=biases,
    norms=lambda values: 4,
    norm_modules=2,
    layer_norms=True,
    outer_norms=lambda values: 2,
    is_parallel=lambda values: bool(values.get("use_parallel_residual", True)),
    feed_forward=plain("dense_h_to_4h", "dense_4h_to_h", biased=lambda values: True),
)
