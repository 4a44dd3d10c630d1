"""All that is known of one model type: where its modules are and how large they are. One file of
types/ is one model type; the defaults here are those of Llama.

Shapes: B batch, S rows, H heads, E head size.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from components.backbones.rotary.feed_forward import FeedForward, gated

if TYPE_CHECKING:
    from torch import Tensor

Values = Mapping[str, Any]
"""A config.json."""

ReadQuery = Callable[["Tensor", Any], "Tensor"]
"""(output of the module, the attention that it belongs to) -> queries (B, S, H, E)."""

Placed = Callable[[Any, "Tensor", "Tensor"], AbstractContextManager[None]]
"""(attention, keys (B, P, K), values (B, P, K)) -> context in which its first P rows have them."""


@dataclass(frozen=True)
class Biases:
    """Whether projections have biases."""

    query_key_value: bool = False
    output: bool = False


def by_field(values: Values) -> Biases:
    """As `attention_bias` says."""
    biased = bool(values.get("attention_bias", False))
    return Biases(biased, biased)


def only_into_attention(values: Values) -> Biases:
    """As `attention_bias` says; the output projection has none."""
    return Biases(bool(values.get("attention_bias", False)), False)


def without_biases(values: Values) -> Biases:
    """None, whatever config.json says."""
    return Biases()


@dataclass(frozen=True)
class Heads:
    """Attention heads of one model."""

    query: int
    key_value: int
    size: int

    @property
    def query_width(self) -> int:
        return self.query * self.size

    @property
    def key_value_width(self) -> int:
        return self.key_value * self.size


def grouped_heads(values: Values) -> Heads:
    """Key/value heads may be fewer, and of a size of their own."""
    query = values["num_attention_heads"]
    size = values.get("head_dim") or values["hidden_size"] // query
    return Heads(query, values.get("num_key_value_heads") or query, size)


def equal_heads(values: Values) -> Heads:
    """A key and a value for each query, which share the hidden size."""
    query = values["num_attention_heads"]
    return Heads(query, query, values["hidden_size"] // query)


def no_norm(heads: Heads) -> int:
    """Queries and keys are not normalised, or without weights."""
    return 0


def norm_per_head(heads: Heads) -> int:
    """One weight vector for all heads, of queries and of keys."""
    return 2 * heads.size


def norm_over_width(heads: Heads) -> int:
    """One weight for each number of all heads together."""
    return heads.query_width + heads.key_value_width


def by_head(output: "Tensor", attention: Any) -> "Tensor":
    """Of (B, S, H E) or (B, S, H, E)."""
    return output.view(*output.shape[:2], -1, attention.head_dim)


def heads_first(output: "Tensor", attention: Any) -> "Tensor":
    """Of (B, H, S, E)."""
    return output.transpose(1, 2)


Q_PROJ: tuple[str, ReadQuery] = ("q_proj", by_head)


@dataclass(frozen=True)
class ModelType:
    """One `config.model_type`."""

    name: str
    is_causal: bool = True
    defaults: Values = field(default_factory=dict)
    """What config.json may leave out, where it decides a size."""

    attention: str = "self_attn"
    """Where a layer keeps its attention."""
    queries: tuple[tuple[str, ReadQuery], ...] = (Q_PROJ,)
    """Modules of the attention whose output are the queries, neither scaled nor rotated; the first
    one that it has.
    """
    output: str = "o_proj"
    """The attention's output projection."""
    cache_argument: str = "past_key_values"
    """Under which the attention takes keys and values of earlier tokens."""
    placed: Placed | None = None
    """How keys and values are put in the places of its first rows where it takes no cache."""
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    masks_by_layer: bool = False
    """Whether the model takes one mask for each of config.layer_types."""
    has_sinks: bool = False
    """Whether a learnt number stands in the sum of every softmax."""
    scales_with_position: bool = False
    """Whether queries are scaled by their position, which must not be negative then."""
    slides: bool = False
    """Whether a `sliding_window` makes every layer local, where there are no layer types."""
    window: str = "sliding_window"
    """The field of config.json that holds the width of sliding windows."""

    projections: Callable[[int, Heads], Mapping[str, tuple[int, int]]] = field(
        default=lambda hidden, heads: {
            "q_proj": (hidden, heads.query_width),
            "k_proj": (hidden, heads.key_value_width),
            "v_proj": (hidden, heads.key_value_width),
            "o_proj": (heads.query_width, hidden),
        }
    )
    """(hidden size, heads) -> (in, out) of the attention's linear modules, the output's last."""
    heads: Callable[[Values], Heads] = grouped_heads
    biases: Callable[[Values], Biases] = by_field
    query_key_norm: Callable[[Heads], int] = no_norm
    """Weights that normalise queries and keys, of one layer."""
    norms: Callable[[Values], int] = lambda values: 2
    """Vectors of the hidden size in the norms of one layer, biases among them."""
    norm_modules: int | None = None
    """Norms of one layer; None: as many as their vectors."""
    layer_norms: bool = False
    """Whether they are torch's own layer norms, which keep their input as it is; else RMS norms,
    which keep it in float32.
    """
    normalises_heads: bool | None = None
    """Whether queries and keys are normalised; None: where that has weights."""
    outer_norms: Callable[[Values], int] = lambda values: 1
    """The same outside the layers."""
    further: Callable[[Values], int] = lambda values: 0
    """Parameters of all layers together that the fields above do not count; may be negative."""
    feed_forward: Callable[[Values, int], FeedForward] = gated
    """(config.json, index of the layer) -> what follows the attention."""
    is_parallel: Callable[[Values], bool] = lambda values: False
    """Whether the feed-forward part takes what the attention takes, and does not follow it."""

    def complete(self, values: Values) -> dict[str, Any]:
        """config.json with what it leaves out."""
        given = {name: value for name, value in values.items() if value is not None}
        return {**values, **self.defaults, **given}
