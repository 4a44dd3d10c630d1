"""What a family tells of memory: bytes that a layer takes at the named instants of a training step.

The facts a newcomer gets wrong: a frozen linear layer keeps no input, because it needs no weight
gradient, so most of what a layer keeps is what its non-linear parts ask for; and the worst instant
is not the end of the forward pass but a layer's backward, when gradients of activations stand
beside everything that is kept.
Numbers come from the code that runs, term by term, none is fitted; tests/components/planning holds
them against the tensors that are really alive.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

FLOAT32 = 4
LARGEST_PIECE = 2**21
"""Numbers of a product of weights and values at a time, where a text is read in passing."""
LOGITS_AT_ONCE = 2**24
"""Numbers of a whole language-model head's answers at a time, float32 (token_losses.py)."""


@dataclass(frozen=True)
class Kept:
    """What a method makes autograd keep in every layer, and what it adds to it."""

    targets: tuple[str, ...] = ()
    """Linear modules with a trained update beside the frozen weights (LoRA)."""
    rank: int = 0
    """Numbers per row in the middle of such an update."""
    drops_inputs: bool = False
    """Whether such an update has dropout on its input."""
    all_weights: bool = False
    """Every weight of the layer is trained."""
    in_layers: bool = True
    """Whether gradients run through the layers at all: not where the head alone is trained."""
    replaces_keys: bool = False
    """Trained keys and values stand in the places of rows' own: their projections have hooks."""
    whole_last_layer: bool = False
    """The last layer computes every row: what is trained in it must get its gradient."""
    rows: int = 0
    """Rows beside the text of a sequence; `global_rows` of them are global where there are such."""
    global_rows: int = 0
    text_apart: bool = False
    """The text is read without gradients, and `rows` rows are run on its states."""
    per_row: int = 0
    """Further bytes that are kept per row and layer: of what is added to the attention."""
    scaled_per_row: int = 0
    """Numbers per row and layer that are kept because a trained scale is multiplied onto them, at
    linear modules of the attention and inside the feed-forward part.
    """


@dataclass(frozen=True)
class LayerRun:
    """One micro-batch going through the layers, as far as memory depends on it."""

    sequences: int
    rows: int
    """Of one sequence, prefix included."""
    number_bytes: int
    """Of a number of the backbone: 4 or 2 (bf16)."""
    kept: Kept = field(default_factory=Kept)
    gpu: bool = False
    stock_attention: bool = False
    hooked: bool = False
    """Modules have hooks (ZeRO-3 gathers weights there)."""
    reads_global_row: bool = False
    """Whether the head reads one row, and a global one where the family has such."""
    reads_one_row: bool = False
    text_stays: bool = False
    """Whether the text's states are given (training.text_states kept), and not read in passing."""
    side_by_side: int = 1
    """Runs of so many adapters at a time, where `kept.text_apart`."""
    tile_rows: int | None = None
    """Rows of a sequence for which the feed-forward part is computed at a time; None: all."""

    @property
    def all_rows(self) -> int:
        return self.sequences * self.rows

    @property
    def tiled_rows(self) -> int | None:
        """Rows of all sequences that the feed-forward part sees at a time; None: all of them."""
        if self.tile_rows is None or self.tile_rows >= self.rows:
            return None
        return self.sequences * self.tile_rows


@dataclass(frozen=True)
class LayerMemory:
    """Bytes. `forward` and `backward` come on top of what all layers keep together, at the worst
    instants of the last one; `backward` by name of the instant.
    """

    kept: int
    """What autograd keeps of a layer."""
    input: int
    """The part of `kept` that is the layer's own input, which a checkpointed layer keeps anyway."""
    boundary: int
    """The hidden states between two layers: all that a checkpointed layer keeps."""
    last: int
    """`kept` of the last layer, which may compute the read rows alone."""
    forward: int
    backward: Mapping[str, int]
    without_gradients: int
    """The worst instant of a layer of which nothing is kept, beyond its input."""
    outside: int
    """Alive through the whole step, outside the layers: rotary tables, masks, the embedding's
    own.
    """
    states: int = 0
    """Keys and values of all rows, where they are read apart."""
    constant_text: int | None = None
    """`kept` of a first layer whose text takes no part in the backward pass; None: it does."""
    after: int = 0
    """What follows the last layer keeps: the last norm's input."""
