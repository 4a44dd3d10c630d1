"""Which keys each row of a padded batch sees under Longformer's local + global attention: worked
out once per forward pass, shared by all layers.

Shapes: B batch, S rows of the sequence, G global rows (largest count in the batch), Q rows of one
query block, K keys of its window. The fact a newcomer gets wrong: a global key inside a row's
window is counted once, as a global key; so the window's bias hides it.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Query rows [query_start, query_end) and the window of keys [key_start, key_end) that they can
    see.
    """

    query_start: int
    query_end: int
    key_start: int
    key_end: int
    bias_QK: Tensor
    """0 where the key is seen, -inf where it is not (out of the row's window, padding, or a global
    key).
    """


@dataclass(frozen=True)
class ExamplePlan:
    """One example of the batch."""

    blocks: tuple[Block, ...]
    """Cover the rows up to the last real one; what follows is padding and stays zero."""
    global_rows: Tensor
    """Indices of the global rows, ascending."""
    silent_rows: Tensor
    """Rows without a local result: global rows, and padding before the last real row."""


class AttentionPlan:
    """The whole batch. What a machine does not ask for is not built: block lists serve CPUs, the
    FlexAttention mask GPUs.

    `attention_mask_BS`: as LongformerEncoder gets it, below 0 for padding, above 0 for global rows;
    `one_sided_window`: keys seen on each side, in tokens; `block_size`: query rows computed
    together; `dtype`: of softmax.
    """

    def __init__(
        self,
        attention_mask_BS: Tensor,
        *,
        one_sided_window: int,
        block_size: int,
        dtype: torch.dtype,
    ) -> None:
        self.is_padding_BS, self.is_global_BS = attention_mask_BS < 0, attention_mask_BS > 0
        self.one_sided_window, self.block_size, self.dtype = one_sided_window, block_size, dtype
        self.kernel_state: dict[str, Any] = {}
        """What a kernel keeps between the layers of one pass."""

    @cached_property
    def padding_bias_BS(self) -> Tensor:
        """0 for real keys, the dtype's least number for padding (finite: a row that sees nothing
        stays finite).
        """
        return torch.zeros_like(self.is_padding_BS, dtype=self.dtype).masked_fill_(
            self.is_padding_BS, torch.finfo(self.dtype).min
        )

    @cached_property
    def global_places(self) -> tuple[Tensor, Tensor]:
        """Example and row of each of the N global rows, in order: an index into (B, S)."""
        examples_N, rows_N = self.is_global_BS.nonzero(as_tuple=True)
        return examples_N, rows_N

    @cached_property
    def global_rows_BG(self) -> Tensor:
        """Rows of the global rows, ascending, filled up with row 0 where an example has fewer than
        the most.
        """
        return self._order_BG.where(self._is_real_BG, 0)

    @cached_property
    def real_places(self) -> tuple[Tensor, Tensor]:
        """Where `global_rows_BG` holds the N global rows and is not only filled up: an index into
        (B, G), in the order of `global_places`.
        """
        examples_N, columns_N = self._is_real_BG.nonzero(as_tuple=True)
        return examples_N, columns_N

    @cached_property
    def _is_real_BG(self) -> Tensor:
        return self.is_global_BS.gather(1, self._order_BG)

    @cached_property
    def _order_BG(self) -> Tensor:
        most = int(self.is_global_BS.sum(1).max())
        return self.is_global_BS.to(torch.int8).argsort(dim=1, descending=True, stable=True)[
            :, :most
        ]

    @cached_property
    def examples(self) -> tuple[ExamplePlan, ...]:
        """Query blocks with their keys and biases, example by example."""
        biases = _Biases(
            self.one_sided_window,
            self.block_size,
            dtype=self.dtype,
            device=self.is_padding_BS.device,
        )
        pairs = zip(self.is_padding_BS, self.is_global_BS, strict=True)
        return tuple(
            _plan_example(padding_S, global_S, biases=biases) for padding_S, global_S in pairs
        )


def _plan_example(padding_S: Tensor, global_S: Tensor, *, biases: "_Biases") -> ExamplePlan:
    real_rows = (~padding_S).nonzero()
    length = int(real_rows[-1]) + 1 if len(real_rows) else 0
    hidden_S = padding_S | global_S
    counts = [0, *hidden_S.cumsum(0).tolist()]
    blocks = []
    for start in range(0, length, biases.block_size):
        end = min(start + biases.block_size, length)
        key_start, key_end = max(0, start - biases.window), min(length, end + biases.window)
        bias_QK = biases.band(start, end, key_start, key_end)
        if counts[key_end] > counts[key_start]:
            bias_QK = bias_QK.masked_fill(hidden_S[None, key_start:key_end], -math.inf)
        blocks.append(Block(start, end, key_start, key_end, bias_QK))
    return ExamplePlan(
        blocks=tuple(blocks),
        global_rows=global_S.nonzero()[:, 0],
        silent_rows=hidden_S[:length].nonzero()[:, 0],
    )


class _Biases:
    """Band-shaped biases; blocks away from the ends of the document share one."""

    def __init__(
        self, window: int, block_size: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.window, self.block_size, self.dtype, self.device = window, block_size, dtype, device
        self._by_shape: dict[tuple[int, int, int], Tensor] = {}

    def band(self, start: int, end: int, key_start: int, key_end: int) -> Tensor:
        shape = (end - start, key_end - key_start, key_start - start)
        if shape not in self._by_shape:
            rows = torch.arange(shape[0], device=self.device)[:, None]
            keys = torch.arange(shape[1], device=self.device)[None] + shape[2]
            bias = torch.zeros(shape[:2], dtype=self.dtype, device=self.device)
            self._by_shape[shape] = bias.masked_fill((keys - rows).abs() > self.window, -math.inf)
        return self._by_shape[shape]
