"""The sizes of a backbone that decide parameters and memory, as its family reads them from a
config.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearChain:
    """Linear modules of a layer that follow one another, by their paths in it."""

    attention: str
    """The attention's output projection."""
    inward: tuple[str, ...]
    """Those that take the feed-forward part's input: `up` (or fc1) first, then the gate where there
    is one.
    """
    outward: str
    """The one that takes what is inside: `down`, or fc2."""
    is_fused: bool = False
    """Whether one module is gate and up: the second half of its output is that of up."""


@dataclass(frozen=True)
class BackboneShape:
    """Sizes of one backbone; `parameters` counts the base model without any pooler or output
    layer.
    """

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
    """Width of the local attention window in tokens; None: every row attends to all it may see."""
    parameters: int
    trained_with_prefix: int
    """Scalars of the backbone that the paper's prefix methods train beside prefix and head."""
    linear_widths: Mapping[str, tuple[int, int]]
    """(in, out) of the linear modules of one layer, by the name that the stock model gives them."""
    lora_targets: tuple[str, ...]
    """Those that LoRA updates unless told otherwise."""
    embeddings: int = 0
    """Parameters of the embedding tables: the largest module outside the layers."""
    gated: bool = True
    """Whether the feed-forward part multiplies two projections (SwiGLU)."""
    normed_heads: bool = False
    """Whether queries and keys are normalised head by head."""
    norms_per_layer: int = 2
    layer_norms: bool = False
    """Whether the norms are torch's own layer norms, which work in the numbers of the backbone."""
    activation_copies: int = 1
    """What autograd keeps of a plain activation, in numbers of feed_forward."""
    activation_gradients: int = 2
    """What is alive at once in its backward pass, in the same numbers."""
    inside_feed_forward: tuple[str, ...] = ()
    """Of `linear_widths` those of a feed-forward part that is a module of its own."""
    chain: LinearChain | None = None
    """The same modules in every layer; None: there are experts, attention and feed-forward part
    stand side by side, or the family does not say.
    """
    rotated: float = 1.0
    """Share of a head that is rotated."""
    is_causal: bool = False
    """Whether a row sees only what comes before it."""
    masked: bool = False
    """Whether there are layers whose attention needs a mask (local ones)."""
    soft_cap: bool = False
    """Whether scores have a soft cap: no kernel computes them off GPUs."""
    sinks: bool = False
    """Whether every softmax has a learnt sink: likewise."""
    hidden_dropout: float = 0.0
    """As its config.json has it."""
    attention_dropout: float = 0.0

    @property
    def head_size(self) -> int:
        return self.query_width // self.heads

    experts: bool = False
    """Whether there are mixtures of experts, each with all its weights in one module."""
    stored_bytes: int = 4
    """Of a number in its checkpoint, as its config.json says."""
    linear_parameters: int = 0
    """Weights of the linear modules of all layers: those that are quantised."""
    linear_bits: float | None = None
    """Of one of these in memory, where they are quantised there."""
    linear_inputs_kept: bool = False
    """Whether these modules keep their inputs although their weights are frozen."""

    @property
    def largest_linear(self) -> int:
        """Parameters of the largest linear module; where there are experts, of a whole layer."""
        if self.experts:
            return self.largest_layer
        projections = (rows * columns for rows, columns in self.linear_widths.values())
        return max(*projections, self.hidden * self.feed_forward)

    @property
    def largest_layer(self) -> int:
        """Parameters of one layer, rounded up."""
        return -(-(self.parameters - self.embeddings) // self.layers)
