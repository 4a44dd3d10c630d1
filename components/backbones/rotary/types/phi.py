"""Phi 1, 1.5 and 2: attention and feed-forward side by side, part of each head rotated."""

from components.backbones.rotary.feed_forward import plain
from components.backbones.rotary.model_type import (
    Q_PROJ,
    Biases,
    ModelType,
    Values,
    heads_first,
)


def normalised(values: Values) -> int:
    """Weights and biases of the layer norms on queries and keys, where the model has them."""
    size = values["hidden_size"] // values["num_attention_heads"]
    return 4 * size * values["num_hidden_layers"] * bool(values.get("qk_layernorm"))


PHI = ModelType(
    "phi",
    queries=(("q_layernorm", heads_first), Q_PROJ),
    output="dense",
    projections=lambda hidden, heads: {
        "q_proj": (hidden, heads.query_width),
        "k_proj": (hidden, heads.key_value_width),
        "v_proj": (hidden, heads.key_value_width),
        "dense": (heads.query_width, hidden),
    },
    biases=lambda values: Biases(query_key_value=True, output=True),
    norm_modules=1,
    is_parallel=lambda values: True,
    layer_norms=True,
    outer_norms=lambda values: 2,
    further=normalised,
    feed_forward=plain("fc1", "fc2", biased=lambda values: True),
)
