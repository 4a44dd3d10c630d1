"""Adapters whose rows read documents in one run of the backbone, side by side: none of them sees
another's rows, and of each layer the documents' keys and values are read once for all.

The fact a newcomer gets wrong: sequences of rows are as long as the longest prefix among them; what
is beyond an adapter's own rows is computed and seen by nobody.
Shapes: B documents of a reading, N sequences of rows (one per adapter and document), P rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from components.backbones.text_in_passing import TextInPassing
    from components.backbones.text_states import TextStates


class RandomState:
    """A state of torch's global generators that is one adapter's own: what it draws depends neither
    on who draws beside it nor on how much. At first it is the state of the moment.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self._own = self._present()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Context in which what is drawn is drawn from it; it goes on from there next time."""
        before = self._present()
        self._put(self._own)
        try:
            yield
        finally:
            self._own = self._present()
            self._put(before)

    def _present(self) -> tuple[Tensor, Tensor | None]:
        on_device = None if self._cuda is None else torch.cuda.get_rng_state(self._cuda)
        return torch.get_rng_state(), on_device

    def _put(self, state: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is not None:
            assert self._cuda is not None
            torch.cuda.set_rng_state(state[1], self._cuda)


@dataclass(frozen=True)
class Reader:
    """An adapter's part: so many rows behind each document, and what its dropout is drawn from.
    `random` None: from torch's generator as it stands, which is for one adapter alone.
    """

    rows: int
    random: RandomState | None = None

    def turn(self) -> AbstractContextManager[None]:
        """Context in which what is drawn is drawn from there."""
        return nullcontext() if self.random is None else self.random.turn()


@dataclass(frozen=True)
class Reading:
    """Documents, and who reads them. Its sequences of rows stand by adapter, then by document."""

    states: "TextStates | TextInPassing"
    readers: tuple[Reader, ...]

    @property
    def documents(self) -> int:
        return len(self.states.tokens_B)

    @property
    def text(self) -> int:
        """Width of the documents' states in tokens, padding included."""
        return self.states.width


def most_rows(readings: Sequence[Reading]) -> int:
    """P, the rows of every sequence."""
    return max(reader.rows for reading in readings for reader in reading.readers)


def tokens_and_rows(readings: Sequence[Reading]) -> tuple[Tensor, Tensor]:
    """Tokens of the document that each sequence stands behind, and rows of its adapter, (N,) int64
    both.
    """
    tokens_N = [reading.states.tokens_B.repeat(len(reading.readers)) for reading in readings]
    rows_N = [
        torch.full_like(reading.states.tokens_B, reader.rows)
        for reading in readings
        for reader in reading.readers
    ]
    return torch.cat(tokens_N), torch.cat(rows_N)


def parts(readings: Sequence[Reading]) -> list[tuple[Reading, Reader, slice]]:
    """Of every adapter, in order: its reading, itself, its sequences."""
    found, first = [], 0
    for reading in readings:
        for reader in reading.readers:
            found.append((reading, reader, slice(first, first + reading.documents)))
            first += reading.documents
    return found


@contextmanager
def dropout_of_each(backbone: nn.Module, readings: Sequence[Reading]) -> Iterator[None]:
    """Context in which the backbone's dropout over (N, P, D) is drawn for each adapter apart, as in
    a run of its own.
    """
    each = parts(readings)
    if not backbone.training or all(reader.random is None for _, reader, _ in each):
        yield
        return

    def forward(module: nn.Dropout, values_NPD: Tensor) -> Tensor:
        dropped = []
        for _, reader, place in each:
            with reader.turn():
                own = nn.functional.dropout(values_NPD[place, : reader.rows], module.p)
            dropped.append(padded_rows(own, values_NPD.shape[1]))
        return torch.cat(dropped)

    with ExitStack() as stack:
        for module in backbone.modules():
            if isinstance(module, nn.Dropout) and module.p > 0:
                module.forward = forward.__get__(module)  # type: ignore[attr-defined]
                stack.callback(module.__dict__.pop, "forward")
        yield


def padded_rows(rows_NPX: Tensor, count: int, *, dim: int = 1) -> Tensor:
    """The same with zeros behind it, up to `count` rows."""
    missing = count - rows_NPX.shape[dim]
    if not missing:
        return rows_NPX
    behind: list[Any] = [0, 0] * (rows_NPX.ndim - 1 - dim) + [0, missing]
    return nn.functional.pad(rows_NPX, behind)
