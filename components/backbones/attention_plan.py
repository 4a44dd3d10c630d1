"""Which keys each row of a padded batch sees under Longformer's local + global attention: worked out once per forward pass, shared by all layers.

Shapes: B batch, S rows of the sequence, G global rows (largest count in the batch), Q rows of one query block, K keys of its window.
The fact a newcomer gets wrong: a global key inside a row's window is counted once, as a global key; so the window's bias hides it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Query rows [query_start, query_end) and the window of keys [key_start, key_end) that they can see."""

    query_start: int
    query_end: int
    key_start: int
    key_end: int
    bias_QK: Tensor
    """0 where the key is seen, -inf where it is not (out of the row's window, padding, or a global key)."""


@dataclass(frozen=True)
class ExamplePlan:
    """One example of the batch."""

    blocks: tuple[Block, ...]
    """Cover the rows up to the last real one; what follows is padding and stays zero."""
    global_rows: Tensor
    """Indices of the global rows, ascending."""
    silent_rows: Tensor
    """Rows without a local result: global rows, and padding before the last real row."""


@dataclass(frozen=True)
class AttentionPlan:
    """The whole batch."""

    examples: tuple[ExamplePlan, ...]
    global_rows_BG: Tensor
    """Indices of the global rows, filled up with 0 where an example has fewer than the most."""
    is_global_BG: Tensor
    """False where `global_rows_BG` is only filled up."""
    padding_bias_BS: Tensor
    """0 for real keys, the dtype's least number for padding (finite: a row that sees nothing stays finite)."""

    global_places: tuple[Tensor, Tensor]
    """Example and row of each of the N global rows: an index into (B, S)."""


def plan_attention(
    is_masked_BS: Tensor, is_global_BS: Tensor, *, one_sided_window: int, block_size: int, dtype: torch.dtype
) -> AttentionPlan:
    """Build the plan from the two masks that LongformerEncoder hands to its layers.

    `one_sided_window`: keys seen on each side, in tokens; `block_size`: query rows computed together; `dtype`: of the biases.
    """
    biases = _Biases(one_sided_window, block_size, dtype=dtype, device=is_masked_BS.device)
    examples = tuple(
        _plan_example(masked_S, global_S, biases=biases) for masked_S, global_S in zip(is_masked_BS, is_global_BS, strict=True)
    )
    largest = max(len(example.global_rows) for example in examples)
    rows_BG = is_global_BS.new_zeros(len(examples), largest, dtype=torch.long)
    real_BG = is_global_BS.new_zeros(len(examples), largest, dtype=torch.bool)
    for index, example in enumerate(examples):
        rows_BG[index, : len(example.global_rows)] = example.global_rows
        real_BG[index, : len(example.global_rows)] = True
    padding_bias_BS = torch.zeros(is_masked_BS.shape, dtype=dtype, device=is_masked_BS.device).masked_fill_(
        is_masked_BS, torch.finfo(dtype).min
    )
    places = is_global_BS.nonzero(as_tuple=True)
    return AttentionPlan(
        examples=examples,
        global_rows_BG=rows_BG,
        is_global_BG=real_BG,
        padding_bias_BS=padding_bias_BS,
        global_places=(places[0], places[1]),
    )


def _plan_example(masked_S: Tensor, global_S: Tensor, *, biases: "_Biases") -> ExamplePlan:
    real_rows = (~masked_S).nonzero()
    length = int(real_rows[-1]) + 1 if len(real_rows) else 0
    silent_S = masked_S | global_S
    counts = [0, *silent_S.cumsum(0).tolist()]
    blocks = []
    for start in range(0, length, biases.block_size):
        end = min(start + biases.block_size, length)
        key_start, key_end = max(0, start - biases.window), min(length, end + biases.window)
        bias_QK = biases.band(start, end, key_start, key_end)
        if counts[key_end] > counts[key_start]:
            bias_QK = bias_QK.masked_fill(silent_S[None, key_start:key_end], float("-inf"))
        blocks.append(Block(start, end, key_start, key_end, bias_QK))
    return ExamplePlan(blocks=tuple(blocks), global_rows=global_S.nonzero()[:, 0], silent_rows=silent_S[:length].nonzero()[:, 0])


class _Biases:
    """Band-shaped biases; blocks away from the ends of the document share one."""

    def __init__(self, window: int, block_size: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self.window, self.block_size, self.dtype, self.device = window, block_size, dtype, device
        self._by_shape: dict[tuple[int, int, int], Tensor] = {}

    def band(self, start: int, end: int, key_start: int, key_end: int) -> Tensor:
        shape = (end - start, key_end - key_start, key_start - start)
        if shape not in self._by_shape:
            rows = torch.arange(shape[0], device=self.device)[:, None]
            keys = torch.arange(shape[1], device=self.device)[None] + shape[2]
            bias = torch.zeros(shape[:2], dtype=self.dtype, device=self.device)
            self._by_shape[shape] = bias.masked_fill((keys - rows).abs() > self.window, float("-inf"))
        return self._by_shape[shape]
