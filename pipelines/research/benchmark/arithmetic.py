"""How many floating-point operations a training step of a frozen backbone needs at least: 2 per
weight and token forward, 2 backward through activations, and attention.

Weight gradients of the frozen linear layers are not needed. Attention costs two products forward
and four backward: 3 x 4 x D for each pair of a query and a key that it sees. The Longformer's
global projections are left out (they are needed for a few rows only), and nothing is taken off for
a last layer of which only one row is read: the share of the machine's matrix rate made from these
numbers says how a step compares with that arithmetic, not how busy the cores were.
"""

from collections.abc import Mapping
from typing import Any

FORWARD_AND_BACKWARD = 3


def linear_parameters(config: Mapping[str, Any]) -> int:
    """Weights of the layers' linear modules: four square projections, and two (decoders: three) of
    the feed-forward part. No grouped queries.
    """
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    assert config.get("num_key_value_heads", 0) in (0, config.get("num_attention_heads", 0)), (
        "grouped queries have smaller projections"
    )
    feed_forward = 2 if "attention_window" in config else 3
    parameters: int = config["num_hidden_layers"] * (
        4 * hidden * hidden + feed_forward * hidden * wide
    )
    return parameters


def step_flops(config: Mapping[str, Any], *, batch: int, tokens: int, prefix_length: int) -> float:
    """Operations of one step on `batch` unpadded documents of `tokens` text tokens."""
    rows = tokens + prefix_length
    pairs = (
        longformer_pairs(rows, window=config["attention_window"][0], global_rows=prefix_length + 1)
        if "attention_window" in config
        else rows * (rows + 1) // 2
    )
    attention: float = (
        FORWARD_AND_BACKWARD
        * 4.0
        * config["hidden_size"]
        * pairs
        * config["num_hidden_layers"]
        * batch
    )
    return 4.0 * linear_parameters(config) * batch * tokens + attention


def longformer_pairs(rows: int, *, window: int, global_rows: int) -> int:
    """Pairs of query and key in one document whose first `global_rows` rows are global: each local
    row sees its window and every global row once, each global row sees all.
    """
    side, pairs = window // 2, global_rows * rows
    for row in range(global_rows, rows):
        pairs += min(rows, row + side + 1) - max(global_rows, row - side) + global_rows
    return pairs
