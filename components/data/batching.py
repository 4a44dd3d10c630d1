"""Which documents make an optimizer step, and how a step is cut into micro-batches: pure functions
of lengths, seed and epoch.

A step is a fixed number of documents of about the same length, whatever the token budget: so every
document weighs the same and the result does not depend on world size or micro-batch size. The token
budget only decides into how many micro-batches a step is cut. Lengths are in tokens, special tokens
included.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

Indices = NDArray[np.int64]

LENGTH_JITTER = 0.03
"""Standard deviation of the relative noise on lengths before sorting: a document gets new
neighbours every epoch.
"""
MICRO_BATCH_COST_TOKENS = 256
"""What one more micro-batch may cost, in padding tokens saved: a step is cut finer only where that
saves more.
"""


def epoch_steps(
    lengths: ArrayLike, *, train_batch_size: int, seed: int, epoch: int
) -> list[Indices]:
    """Document indices of each optimizer step of one epoch; every document exactly once.

    All steps have `train_batch_size` documents, except one with the remainder, whose place in the
    order and in length is random as well.
    """
    length_N = np.asarray(lengths, dtype=np.float64)
    random = np.random.default_rng([seed, epoch])
    order = np.argsort(
        length_N * np.exp(LENGTH_JITTER * random.standard_normal(len(length_N))), kind="stable"
    )
    steps = _consecutive(order, train_batch_size, random)
    return [steps[place] for place in random.permutation(len(steps))]


def _consecutive(order: Indices, size: int, random: np.random.Generator) -> list[Indices]:
    whole, remainder = divmod(len(order), size)
    if not remainder:
        return list(np.split(order, whole))
    shorter = int(random.integers(whole + 1))
    sizes = [size] * shorter + [remainder] + [size] * (whole - shorter)
    return list(np.split(order, np.cumsum(sizes)[:-1]))


def split_step(
    indices: ArrayLike,
    lengths: ArrayLike,
    *,
    world_size: int,
    micro_batch_size: int,
    tokens_per_batch: int | None = None,
) -> list[list[Indices]]:
    """Cuts one step: `[rank][micro step]` -> document indices, longest documents first, the same
    number of micro steps on every rank.

    A micro-batch has at most `micro_batch_size` documents and at most `tokens_per_batch` tokens
    with padding (one document may exceed it). A rank has an empty array in its last micro step only
    where there are fewer documents than ranks to serve.
    """
    index_N = np.asarray(indices, dtype=np.int64)
    length_N = np.asarray(lengths, dtype=np.int64)
    index_N = index_N[np.argsort(-length_N[index_N], kind="stable")]
    batches = _cut(index_N, length_N, micro_batch_size, tokens_per_batch)
    batches = _even_out(batches, length_N, world_size)
    return _deal(batches, length_N, world_size)


def _cut(
    index_N: Indices, length_N: Indices, micro_batch_size: int, tokens_per_batch: int | None
) -> list[Indices]:
    """The cheapest cut of documents sorted from long to short: fewest padded tokens plus a fixed
    cost per micro-batch, by dynamic programming.
    """
    sorted_N = length_N[index_N]
    count = len(sorted_N)
    cost = np.zeros(count + 1)
    first = np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        starts = np.arange(max(0, end - micro_batch_size), end)
        padded = (end - starts) * sorted_N[starts]
        costs = cost[starts] + padded + MICRO_BATCH_COST_TOKENS
        if tokens_per_batch is not None:
            costs[:-1][padded[:-1] > tokens_per_batch] = np.inf
        best = int(np.argmin(costs))
        cost[end], first[end] = costs[best], starts[best]
    batches: list[Indices] = []
    end = count
    while end > 0:
        batches.append(index_N[first[end] : end])
        end = int(first[end])
    return batches[::-1]


def _even_out(batches: list[Indices], length_N: Indices, world_size: int) -> list[Indices]:
    """Halves the costliest micro-batches until every rank gets equally many; where only single
    documents are left, adds empty ones.
    """
    batches = list(batches)
    while len(batches) % world_size:
        places = [place for place, batch in enumerate(batches) if len(batch) > 1]
        if not places:
            batches.append(np.empty(0, dtype=np.int64))
            continue
        place = max(places, key=lambda place: _padded(batches[place], length_N))
        middle = (len(batches[place]) + 1) // 2
        batches[place : place + 1] = [batches[place][:middle], batches[place][middle:]]
    return batches


def _deal(batches: list[Indices], length_N: Indices, world_size: int) -> list[list[Indices]]:
    """Each micro step takes the next costliest micro-batches; the largest of them goes to the rank
    with the least work so far.
    """
    batches = sorted(batches, key=lambda batch: -_padded(batch, length_N))
    dealt: list[list[Indices]] = [[] for _ in range(world_size)]
    work = [0] * world_size
    for start in range(0, len(batches), world_size):
        ranks = sorted(range(world_size), key=lambda rank: work[rank])
        for rank, batch in zip(ranks, batches[start : start + world_size], strict=True):
            dealt[rank].append(batch)
            work[rank] += _padded(batch, length_N)
    return dealt


def _padded(batch: Indices, length_N: Indices) -> int:
    return len(batch) * int(length_N[batch].max()) if len(batch) else 0


def evaluation_batches(
    lengths: ArrayLike,
    *,
    world_size: int,
    rank: int,
    micro_batch_size: int,
    tokens_per_batch: int | None = None,
) -> list[Indices]:
    """One rank's micro-batches over all documents, longest first; every rank has the same number
    (some may be empty).
    """
    length_N = np.asarray(lengths, dtype=np.int64)
    everything = np.arange(len(length_N))
    return split_step(
        everything,
        length_N,
        world_size=world_size,
        micro_batch_size=micro_batch_size,
        tokens_per_batch=tokens_per_batch,
    )[rank]


def padding_share(batches: Iterable[Indices], lengths: ArrayLike) -> float:
    """Padding tokens over all tokens of the micro-batches."""
    length_N = np.asarray(lengths, dtype=np.int64)
    filled = [batch for batch in batches if len(batch)]
    padded = sum(_padded(batch, length_N) for batch in filled)
    return 1.0 - sum(int(length_N[batch].sum()) for batch in filled) / padded if padded else 0.0


def stratified_subset(label_ids: ArrayLike, count: int, seed: int) -> Indices:
    """Sorted indices of `count` documents with the labels in proportion, each label at least once
    where `count` allows it. All documents if there are fewer.
    """
    label_N = np.asarray(label_ids, dtype=np.int64)
    if count >= len(label_N):
        return np.arange(len(label_N))
    labels, sizes = np.unique(label_N, return_counts=True)
    ideal = sizes * (count / len(label_N))
    quota = np.floor(ideal).astype(np.int64)
    if count >= len(labels):
        quota = np.maximum(quota, 1)
    while quota.sum() < count:
        quota[np.argmax(np.where(quota < sizes, ideal - quota, -np.inf))] += 1
    while quota.sum() > count:
        quota[np.argmax(np.where(quota > 1, quota - ideal, -np.inf))] -= 1
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(label_N == label))[:take]
        for label, take in zip(labels, quota, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


class Tokenized(Protocol):
    """What `collate` needs of a split."""

    def column(self, name: str) -> NDArray[Any]: ...

    @property
    def is_chunked(self) -> bool: ...

    def chunks(self, index: int) -> list[NDArray[np.int32]]: ...


def padded(
    rows: Sequence[ArrayLike],
    *,
    pad_token_id: int,
    multiple_of: int = 1,
    padding_side: Literal["left", "right"] = "right",
) -> tuple[Indices, Indices]:
    """(input_ids (B, T), attention_mask (B, T)) of rows of token ids, T the longest rounded up to
    `multiple_of`; at least one column, so that rows without a token can be asked for too.
    """
    arrays = [np.asarray(row, dtype=np.int64) for row in rows]
    longest = max(1, *(len(row) for row in arrays))
    width = -(-longest // multiple_of) * multiple_of
    input_ids_BT = np.full((len(arrays), width), pad_token_id, dtype=np.int64)
    attention_mask_BT = np.zeros((len(arrays), width), dtype=np.int64)
    for place, row in enumerate(arrays):
        here = slice(0, len(row)) if padding_side == "right" else slice(width - len(row), width)
        input_ids_BT[place, here] = row
        attention_mask_BT[place, here] = 1
    return input_ids_BT, attention_mask_BT


def collate(
    split: Tokenized,
    indices: Sequence[int] | Indices,
    *,
    pad_token_id: int,
    multiple_of: int = 1,
    padding_side: Literal["left", "right"] = "right",
    target: str = "label_id",
) -> "dict[str, torch.Tensor]":
    """input_ids and attention_mask (B, T), labels (B); padded to the longest document, rounded up
    to `multiple_of` tokens. `target`: the column of the cache that holds the labels.

    Of documents in chunks: one row per chunk, a document's together, and `example_index`, one per
    row, says which of the labels' documents it belongs to.
    """
    import torch

    chunks = [split.chunks(int(index)) for index in indices]
    input_ids_BT, attention_mask_BT = padded(
        [row for each in chunks for row in each],
        pad_token_id=pad_token_id,
        multiple_of=multiple_of,
        padding_side=padding_side,
    )
    labels_B = split.column(target)[np.asarray(indices, dtype=np.int64)]
    arrays = {"input_ids": input_ids_BT, "attention_mask": attention_mask_BT, "labels": labels_B}
    if split.is_chunked:
        arrays["example_index"] = np.repeat(
            np.arange(len(chunks), dtype=np.int64), [len(each) for each in chunks]
        )
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
