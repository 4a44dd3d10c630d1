"""What every adapter method answers, so that model, artifact and training need not know which one
it is.

A method owns its parameters and says what it adds to one forward pass; the model puts that in by
hooks, only while the pass runs. The facts a newcomer gets wrong: under ZeRO-3 a parameter is whole
only while the module that owns it is called, so values leave the method by calling it; and what
happens inside a layer happens again when gradient checkpointing recomputes it, so hooks inside a
layer are set by `inside_layer`, around each of its runs.
Shapes: B batch, P prefix, S rows, D hidden, L layers, K key/value width.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from components.backbones.family import Rows

Values = dict[str, Tensor]
"""Artifact name without `adapter.` -> whole tensor, fresh (no parameter itself)."""


@dataclass(frozen=True)
class Contribution:
    """What a method adds to one forward pass; None leaves that place as it is."""

    prompt_BPD: Tensor | None = None
    """Embeddings of the prefix rows; None: zeros."""
    before_layer: Callable[[int, Tensor], Tensor] | None = None
    """(index of the layer, its input (B, S, D)) -> its new input, out of place."""
    changes_text: bool = False
    """Whether `before_layer` changes text rows too, and not the method's own rows alone."""
    inside_layer: Callable[[int, nn.Module], AbstractContextManager[Any]] | None = None
    """(index of the layer, the layer) -> context in which the layer runs, and runs again when it is
    recomputed.
    """
    changes_attention: bool = False
    """Whether the last layer must call its attention module as it is, because its output is changed
    or its weights are trained; else only the classified row may be computed there.
    """
    key_value_LBPK: tuple[Tensor, Tensor] | None = None
    """Keys and values, each (L, B, P, K), that `inside_layer` gives the method's `key_value` rows;
    None: it gives none.
    """


@runtime_checkable
class StartsFromRows(Protocol):
    """A module whose prefix may start from rows that it is given (adapter.init: text)."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As of every torch module."""

    def start_from(self, rows_PD: Tensor) -> None:
        """Take these rows (P, D) for the first layer; every other layer starts at zero."""


def follow(owner: nn.Module, part: nn.Module) -> None:
    """Let a part read the parameters that its owner has now, also where one was put in another's
    place (load_state_dict with assign).
    """
    for name in part._parameters:
        part._parameters[name] = owner._parameters[name]


@runtime_checkable
class AdapterMethod(Protocol):
    """A torch module that owns what the method trains beside backbone and head."""

    rows: Rows
    trained_in_backbone: tuple[str, ...]
    """Backbone parameters that the method trains."""

    def to(self, device: torch.device) -> Self:
        """As of every torch module."""

    def __call__(self) -> Values:
        """Values of this forward pass."""

    def contribute(self, values: Mapping[str, Tensor], *, batch_size: int) -> Contribution:
        """What the method adds, given the values of this pass; dropout is drawn here, per
        example.
        """

    def stored(self, parameters: Mapping[str, Tensor]) -> Values:
        """What the artifact stores, from whole parameters by their names in this module."""
