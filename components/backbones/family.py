"""What every backbone family answers, so that adapters, data checks and the planner need not know
the model class.

Shapes: B batch, P prefix, T text tokens, S all rows, D hidden, H heads, E head size, K key/value
width.
Rows stand in this order: [key/value rows | prefix rows | text | padding], whatever the padding side
of what was given: AdaptedModel turns it. Rows that the text does not see run apart, on its states.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from components.backbones.layer_memory import LayerMemory, LayerRun
from components.backbones.shape import BackboneShape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.backbones.readers import Reading
    from components.backbones.text_in_passing import TextInPassing
    from components.backbones.text_states import TextStates

Smoother = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]
"""(query (B, S, H, E), key (B, P, H, E), value (B, P, H, E)) -> what is added to the attention's
output, (B, S, H, E).
"""


@dataclass(frozen=True)
class Rows:
    """Rows that a method puts before or after the text, and the positions it moves the text by."""

    prefix: int = 0
    """Rows of a prefix: mask 1, in Longformer global; position 0, 1, ...; read by pooling `prefix`.
    """
    suffix: int = 0
    """Rows that see the text and that the text does not see: after it, each at the position that
    follows the document's last; in Longformer at positions 0, 1, ...
    """
    key_value: int = 0
    """Rows whose keys and values are replaced in every layer; every row sees them, nobody reads
    their states.
    """
    decomposed: bool = False
    """Whether attention leaves the prefix rows out, because the method adds their share itself
    (decomposed_prefix).
    """
    offset: int = 0
    """Positions between 0 and the text's first, reserved for the prefix."""


@dataclass(frozen=True)
class AttentionSizes:
    """`key_value_heads` is smaller than `heads` with grouped-query attention."""

    heads: int
    key_value_heads: int
    head_size: int


@runtime_checkable
class BackboneFamily(Protocol):
    """One family of stock transformers base models: all that differs from family to family."""

    name: str
    trained_with_prefix: tuple[str, ...]
    """Backbone parameters that the paper's prefix methods train beside prefix and head."""
    rows_see_all_text: bool
    """Whether a row can see text that comes after it."""
    decomposes_prefix: bool
    """Whether attention can leave the prefix rows out (decomposed_prefix)."""
    reads_in_passing: bool
    """Whether text that rows behind it read need not stay (text_states)."""
    has_released_indexing: bool
    """Whether the index error of the paper's release can be repeated (released_indexing)."""
    hidden_dropout: str | None
    """The backbone's own name of the dropout inside its layers; None: it has none."""
    attention_dropout: str
    """Its name of the dropout on attention weights."""
    feed_forward: str | None
    """Name in a layer of the frozen module that works row by row, (B, S, D) -> (B, S, D), which can
    be computed in pieces (training.feed_forward_tile_rows); None: it has none of its own.
    """
    load_options: Mapping[str, Any]
    """Further arguments of `from_pretrained`."""
    structure: tuple[str, ...]
    """Settings in config.json that decide its function and that other families do not have."""
    more_positions: str | None
    """How to get a backbone with more positions, as the end of a sentence: `raise X`."""

    @property
    def model_types(self) -> tuple[str, ...]:
        """`config.model_type` values that this family reads."""

    def shape(self, config: Mapping[str, Any]) -> BackboneShape:
        """Sizes, from the values of config.json."""

    def layer_memory(self, shape: BackboneShape, run: LayerRun) -> LayerMemory:
        """Bytes of a layer at the named instants of a training step, derived from what its code
        keeps (tests/components/planning holds them against live tensors).
        """

    def layers(self, backbone: "nn.Module") -> "Sequence[nn.Module]":
        """The layers before each of which a prefix is added, in order; each takes the hidden states
        as its first argument.
        """

    def attention_sizes(self, backbone: "nn.Module") -> AttentionSizes:
        """Heads and their size."""

    def prefixed_inputs(
        self,
        backbone: "nn.Module",
        input_ids_BT: "Tensor",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        prompt_BPD: "Tensor | None" = None,
        embeddings_BTD: "Tensor | None" = None,
        global_BT: "Tensor | None" = None,
    ) -> dict[str, Any]:
        """Keyword arguments of the backbone's forward, with `rows` before the text.

        `prompt_BPD`: embeddings of the prefix rows (zeros without it); `embeddings_BTD`: of the
        text (the backbone's own without it; ids then only tell padding); `global_BT`: 1 for text
        rows that see and are seen by every row, beside the first, where the family has such rows.
        """

    def forward_context(
        self,
        backbone: "nn.Module",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        read_BR: "Tensor | None" = None,
        text_is_constant: bool = False,
    ) -> AbstractContextManager[None]:
        """Context of the backbone's forward pass over `prefixed_inputs`. `read_BR`: the only rows
        of its last layer that will be read; None: all may be. `text_is_constant`: nothing that
        is trained changes the text rows that enter the first layer, nor how that layer treats
        them; there they need no gradient.
        """

    def text_states(
        self,
        backbone: "nn.Module",
        input_ids_BT: "Tensor",
        attention_mask_BT: "Tensor",
        rows: Rows,
        *,
        stays: bool = True,
    ) -> "TextStates | TextInPassing":
        """Keys and values of the text in every layer, without gradients and dropout, for
        `rows.suffix` rows that read them; TextStates with `stays`, else what takes less memory,
        where the family has it. Raises BackboneError where the family has no such rows.
        """

    def folding_fault(self, config: Mapping[str, Any]) -> str | None:
        """Why the states of a prefix depend on the text, or stock layers would not show it to every
        row of the text, as a sentence that starts with the setting; None: neither is so, and it
        folds into keys and values for every text.
        """

    def states_depend_on_rows(self, config: Mapping[str, Any]) -> bool:
        """Whether they depend on how many rows follow the text."""

    def run_behind_text(self, backbone: "nn.Module", readings: "Sequence[Reading]") -> "Tensor":
        """Last hidden states (N, P, D) of rows alone, which see the text by its states: of all
        readings in order, as readers.py has them. Raises BackboneError as text_states.
        """

    def replaced_keys_and_values(
        self, layer: "nn.Module", key_BPK: "Tensor", value_BPK: "Tensor"
    ) -> AbstractContextManager[None]:
        """Context in which the first P rows of this layer have these keys and values, local and
        global; keys are taken as they are, no rotary rotation moves them.
        """

    def released_indexing(self, layer: "nn.Module", count: int) -> AbstractContextManager[None]:
        """Context in which the text rows 1..count take the global path as queries: the paper's
        released prefix-tuning. Raises BackboneError where the family has none.
        """

    def added_to_attention(
        self, layer: "nn.Module", extra: "Callable[[Tensor], Tensor]"
    ) -> AbstractContextManager[None]:
        """Context in which extra(query (B, S, H, E)) is added to the mixed values before the output
        projection; queries are projected, neither scaled nor rotated.
        """

    def decomposed_prefix(
        self, layer: "nn.Module", prefix_length: int, smooth: Smoother
    ) -> AbstractContextManager[None]:
        """Context in which rows attend to the text alone and get smooth(their queries, keys and
        values of the prefix rows) on top. Raises BackboneError where the family has none.
        """

    def only_rows(self, backbone: "nn.Module", row_BR: "Tensor") -> dict[str, Any]:
        """Further keyword arguments that let the backbone compute only these rows in its last
        layer; empty where it cannot.
        """

    def usable_positions(self, config: Mapping[str, Any]) -> int:
        """Positions for prefix and text, from the backbone's config.json: Longformer numbers real
        tokens from pad_token_id + 1, so its table is that much longer.
        """

    def check_supported(self, config: Mapping[str, Any]) -> None:
        """Raise BackboneError for a variant of the family that would compute something else than
        the method says.
        """

    def accelerate(self, backbone: "nn.Module") -> None:
        """Switch on the fastest exact attention of the family on this machine, in place."""
