"""States of documents on disk, by what the documents are: read once, by whichever worker comes
first, and memory-mapped by every trial, epoch and later retraining.

A folder belongs to one backbone in one precision; in it a document's states are one tensor
(L, 2, K, T, E) of a safetensors file, under the hash of its token ids. Documents are dealt into
buckets by their hash; a bucket is filled under its lock, so that workers share the work and a kill
loses one file at most.

The fact a newcomer gets wrong: a document that is cut at another max_tokens is another document.
Shapes: B documents, T tokens, L layers, K key/value heads, E head size.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.atomic_file import atomic_file
from components.backbones.text_in_passing import TextInPassing
from components.backbones.text_states import TextStates
from components.errors import ConfigError
from components.last_use import used_now
from components.training.mapped_states import mapped_tensor
from components.training.states_folder import DESCRIPTION, STATES_FOLDER, Ids, document_key

BUCKETS = 64
FILE_BYTES = 256 * 2**20
"""A file is written when its tensors exceed this."""
OWN_FILE_BYTES = 64 * 2**20
"""A document of more has a file of its own, which is filled while it is read."""
Read = Callable[[Tensor, Tensor], TextStates | TextInPassing]
"""(input_ids (B, T), attention_mask (B, T)) -> their states."""
Room = Callable[[tuple[int, ...], torch.dtype], Tensor]
"""(shape, dtype) -> a tensor to be filled."""


class StateStore:
    """The states below one folder."""

    def __init__(self, folder: Path, description: Mapping[str, Any] | None = None) -> None:
        from filelock import FileLock

        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Ranks and slots come here at the same moment, and would move one another's file away.
        with FileLock(folder / f"{DESCRIPTION}.lock"):
            if not (folder / DESCRIPTION).is_file():
                with atomic_file(folder / DESCRIPTION) as unfinished:
                    text = json.dumps(description or {}, indent=2)
                    unfinished.write_text(text, encoding="utf-8")
        used_now(folder)
        self._files: dict[Path, Any] = {}
        self._places: dict[str, Path] = {}

    def fill(self, documents: Sequence[Ids], read: Read) -> int:
        """Read what is not there yet; returns how many documents this process read. When it
        returns, all of them are there, whoever read them.
        """
        from filelock import FileLock

        by_bucket: dict[str, dict[str, Ids]] = {}
        for ids in documents:
            key = document_key(ids)
            by_bucket.setdefault(_bucket(key), {})[key] = ids
        count = 0
        for bucket in _from_a_place_of_its_own(sorted(by_bucket)):
            wanted = by_bucket[bucket]
            if not self._missing(bucket, wanted):
                continue
            with FileLock(self.folder / f"{bucket}.lock"):
                missing = self._missing(bucket, wanted)
                writer = _Writer(self.folder, bucket)
                for key, ids in missing.items():
                    writer.read(key, ids, read)
                writer.flush()
                count += len(missing)
            self._look(bucket)
        return count

    def states(self, input_ids_BT: Tensor, attention_mask_BT: Tensor) -> TextStates:
        """Of documents that were read before, padding behind them. Raises ConfigError where one
        of them is gone.
        """
        tokens_B = attention_mask_BT.sum(dim=1)
        found = [
            self._tensor(document_key(ids_T[:count].cpu().numpy()))
            for ids_T, count in zip(input_ids_BT, tokens_B.tolist(), strict=True)
        ]
        return _stacked(found, tokens_B).to(input_ids_BT.device)

    def _tensor(self, key: str) -> Tensor:
        place = self._places.get(key)
        if place is None:
            self._look(_bucket(key))
            place = self._places.get(key)
        if place is None:
            raise ConfigError(
                f"The states of a document are gone from '{self.folder}' (below "
                "cluster.cache_path). Run the same command again (--resume), which reads it anew."
            )
        tensor: Tensor = self._open(place).get_tensor(key)
        return tensor

    def _missing(self, bucket: str, wanted: Mapping[str, Ids]) -> dict[str, Ids]:
        self._look(bucket)
        return {key: ids for key, ids in wanted.items() if key not in self._places}

    def _look(self, bucket: str) -> None:
        for file in self.folder.glob(f"{bucket}-*.safetensors"):
            if file not in self._files:
                self._places |= dict.fromkeys(self._open(file).keys(), file)

    def _open(self, file: Path) -> Any:
        from safetensors import safe_open

        if file not in self._files:
            self._files[file] = safe_open(file, framework="pt")
        return self._files[file]


def forget(cache: Path, keys: Collection[str]) -> int:
    """Remove the states of these documents from every folder of a cache; returns how many went."""
    from filelock import FileLock
    from safetensors import safe_open

    wanted, count = set(keys), 0
    for file in sorted(cache.glob(f"{STATES_FOLDER}/*/*.safetensors")):
        bucket = file.name.partition("-")[0]
        with FileLock(file.parent / f"{bucket}.lock"):
            opened = safe_open(file, framework="pt")
            gone = wanted.intersection(opened.keys())
            if not gone:
                continue
            writer = _Writer(file.parent, bucket)
            for key in set(opened.keys()) - gone:
                writer.add(key, opened.get_tensor(key))
            writer.flush()
            file.unlink()
            count += len(gone)
    return count


class _Writer:
    """Collects states of one bucket into files."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self.folder, self.bucket = folder, bucket
        self.tensors: dict[str, Tensor] = {}

    def read(self, key: str, ids: Ids, read: Read) -> None:
        """Read a document; a long one is written layer by layer."""
        with ExitStack() as stack:

            def room(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
                if math.prod(shape) * dtype.itemsize <= OWN_FILE_BYTES:
                    return torch.empty(shape, dtype=dtype)
                unfinished = stack.enter_context(atomic_file(self._path([key])))
                return mapped_tensor(unfinished, key, shape, dtype)

            tensor = _read(ids, read, room)
            if tensor.nbytes <= OWN_FILE_BYTES:
                self.add(key, tensor)

    def _path(self, keys: Iterable[str]) -> Path:
        name = hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:16]
        return self.folder / f"{self.bucket}-{name}.safetensors"

    def add(self, key: str, tensor: Tensor) -> None:
        self.tensors[key] = tensor
        if sum(one.nbytes for one in self.tensors.values()) > FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        from safetensors.torch import save_file

        if not self.tensors:
            return
        with atomic_file(self._path(self.tensors)) as unfinished:
            save_file(self.tensors, unfinished)
        self.tensors = {}


def _bucket(key: str) -> str:
    return f"{int(key[:8], 16) % BUCKETS:02d}"


def _from_a_place_of_its_own(buckets: list[str]) -> list[str]:
    """Each process starts somewhere else, so that they seldom wait for each other."""
    start = os.getpid() % max(1, len(buckets))
    return buckets[start:] + buckets[:start]


def _read(ids: Ids, read: Read, room: Room) -> Tensor:
    """(L, 2, K, T, E) of a document alone, so that the last digit does not depend on who was read
    beside it; layer after layer, each put where there is room.
    """
    input_ids_1T = torch.from_numpy(np.asarray(ids, dtype=np.int64))[None]
    states = read(input_ids_1T, torch.ones_like(input_ids_1T))
    whole: list[Tensor] = []

    def keep(layer: int, text: tuple[Tensor, Tensor]) -> Tensor:
        key_1KTE, value_1KTE = text
        if not whole:
            whole.append(room((states.depth, 2, *key_1KTE.shape[1:]), key_1KTE.dtype))
        whole[0][layer, 0].copy_(key_1KTE[0])
        return whole[0][layer, 1].copy_(value_1KTE[0])

    for layer in range(states.depth):
        states.meet(layer, partial(keep, layer))
    return whole[0]


def _stacked(documents: Sequence[Tensor], tokens_B: Tensor) -> TextStates:
    """One document's tensor is taken as it lies in its file; several are padded."""
    if len(documents) == 1:
        (only,) = documents
        return TextStates(
            tuple((layer[0][None], layer[1][None]) for layer in only.unbind()), tokens_B
        )
    first, longest = documents[0], max(document.shape[3] for document in documents)
    shape = (first.shape[0], 2, len(documents), first.shape[2], longest, first.shape[4])
    whole = first.new_zeros(shape)
    for place, document in enumerate(documents):
        whole[:, :, place, :, : document.shape[3]] = document
    return TextStates(tuple((layer[0], layer[1]) for layer in whole.unbind()), tokens_B)
