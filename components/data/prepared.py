"""Tokenised documents on disk: written once, memory-mapped by every worker.

One Arrow IPC stream per split (`train.arrow`, ... with columns id, what the task learns,
input_ids, full_length), readable by `datasets.Dataset.from_file` too, and `prepared.json`, written
last. A document may be several sequences: input_ids then holds its chunks one after the other, and
a further column chunk_lengths says where they end.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.checksums import check
from components.data.documents import SPLITS
from components.errors import DataError
from components.last_use import used_now

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
DESCRIPTION = "prepared.json"
FULL_LENGTH = "full_length"


class DamagedCache(DataError):
    """What is prepared is not what was written; `prepare` makes it anew."""


class OlderCache(DataError):
    """What is prepared lacks the documents' full lengths, which caches of before did not keep;
    `prepare` makes it anew, under the same key and fingerprint.
    """


@dataclass(frozen=True)
class SplitReport:
    """One split in numbers. Tokens include special tokens and are counted after truncation."""

    documents: int
    labels: dict[str, int]
    """Documents per label."""
    repeated: int
    """Documents whose text occurred before in the same split; they are kept."""
    tokens: int
    median_tokens: int
    p95_tokens: int
    """95th percentile of document length."""
    truncated: int
    """Documents that were longer than max_tokens; of questions, those that lost chunks to
    max_chunks.
    """
    share_of_tokens_cut: float
    """Tokens cut off over all tokens before truncation."""


@dataclass(frozen=True)
class DataReport:
    """What came out of the preparation."""

    splits: dict[str, SplitReport]
    dropped: dict[str, int]
    """Rows left out, by reason."""
    first_dropped: tuple[str, ...]
    """The first of them, named with file, row and fix."""
    seconds: float
    """Time that `prepare` took in this process; 0 where the data were only opened."""
    cached: bool
    """Whether the data were found ready."""


@dataclass(frozen=True)
class TokenizedSplit:
    """Documents of one split, memory-mapped; indices follow the source's order."""

    lengths: NDArray[np.int32]
    """Tokens that each document takes in a batch, special tokens included; of a document in chunks,
    their number times the longest.
    """
    table: "pa.Table" = field(repr=False)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def label_ids(self) -> NDArray[np.int64]:
        """Class of each document, an index into `PreparedData.labels`; of a question, the index of
        its answer among its candidates. Only of tasks with such a column.
        """
        return self.column("label_id")

    def column(self, name: str) -> NDArray[Any]:
        """A column of the cache with one number per document."""
        if name not in self._columns:
            self._columns[name] = self.table[name].to_numpy()
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        return {}

    @cached_property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each document, all its chunks together, without padding."""
        if not self.is_chunked:
            return self.lengths.astype(np.int64)
        return np.array([sum(lengths) for lengths in self._chunk_lengths], dtype=np.int64)

    @property
    def full_lengths(self) -> NDArray[np.int64]:
        """Tokens of each document before anything was cut off, counted as `tokens` counts them."""
        return self.column(FULL_LENGTH)

    @property
    def is_chunked(self) -> bool:
        """Whether a document may be several sequences."""
        return "chunk_lengths" in self.table.column_names

    def chunks(self, index: int) -> list[NDArray[np.int32]]:
        """Token ids of the sequences that one document is: itself, or its chunks."""
        ids = self.input_ids(index)
        return (
            np.split(ids, np.cumsum(self._chunk_lengths[index])[:-1]) if self.is_chunked else [ids]
        )

    @cached_property
    def _chunk_lengths(self) -> list[list[int]]:
        lengths: list[list[int]] = self.table["chunk_lengths"].to_pylist()
        return lengths

    @cached_property
    def ids(self) -> list[str]:
        """Document ids."""
        ids: list[str] = self.table["id"].to_pylist()
        return ids

    def input_ids(self, index: int) -> NDArray[np.int32]:
        """Token ids of one document (all its chunks), a read-only view of the file."""
        chunk = int(np.searchsorted(self._ends, index, side="right"))
        values, offsets, first = self._chunks[chunk]
        place = index - first
        return values[offsets[place] : offsets[place + 1]]

    @cached_property
    def _chunks(self) -> list[tuple[NDArray[np.int32], NDArray[np.int64], int]]:
        chunks, first = [], 0
        for chunk in self.table["input_ids"].chunks:
            chunks.append(
                (
                    chunk.values.to_numpy(zero_copy_only=True),
                    chunk.offsets.to_numpy(zero_copy_only=True),
                    first,
                )
            )
            first += len(chunk)
        return chunks

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        return np.cumsum([len(offsets) - 1 for _, offsets, _ in self._chunks], dtype=np.int64)


@dataclass(frozen=True)
class PreparedData:
    """All that training and evaluation need of the data."""

    splits: dict[str, TokenizedSplit]
    """train, validation and test."""
    labels: tuple[str, ...]
    """Names of the classes in the order of label ids; empty where the task has none."""
    fingerprint: str
    """sha256 of documents, labels, splits, tokenizer and max_tokens: equal fingerprints are equal
    training data, wherever they came from.
    """
    report: DataReport
    folder: Path


@dataclass(frozen=True, slots=True)
class TokenizedDocument:
    """One row of the cache."""

    id: str
    target: Mapping[str, int | float]
    """What is learnt of it, by the task's columns of the cache."""
    input_ids: NDArray[np.int32]
    full_length: int
    """Tokens before anything was cut off; of chunks all together, whatever each repeats."""
    chunk_lengths: tuple[int, ...] | None = None
    """Of a document in chunks, whose `input_ids` are its chunks one after the other."""


def write_split(
    folder: Path,
    split: str,
    chunks: Iterable[list[TokenizedDocument]],
    *,
    columns: Mapping[str, str],
    chunked: bool = False,
) -> None:
    """Writes one split; each list becomes one record batch. `columns`: what the task learns, name
    -> type in Arrow's words (int64); `chunked`: a document may be several sequences.
    """
    import pyarrow as pa

    types = {name: pa.type_for_alias(kind) for name, kind in columns.items()}
    fields = [
        ("id", pa.string()),
        *types.items(),
        ("input_ids", pa.large_list(pa.int32())),
        (FULL_LENGTH, pa.int64()),
    ]
    schema = pa.schema([*fields, ("chunk_lengths", pa.list_(pa.int32()))] if chunked else fields)
    with (
        pa.OSFile(str(folder / f"{split}.arrow"), "wb") as file,
        pa.ipc.new_stream(file, schema) as writer,
    ):
        for chunk in chunks:
            offsets = np.cumsum(
                [0, *(len(document.input_ids) for document in chunk)], dtype=np.int64
            )
            values = np.concatenate([document.input_ids for document in chunk])
            arrays = [
                pa.array([document.id for document in chunk], pa.string()),
                *(
                    pa.array([document.target[name] for document in chunk], kind)
                    for name, kind in types.items()
                ),
                pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values)),
                pa.array([document.full_length for document in chunk], pa.int64()),
            ]
            if chunked:
                arrays.append(
                    pa.array(
                        [list(document.chunk_lengths or ()) for document in chunk],
                        pa.list_(pa.int32()),
                    )
                )
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def write_description(
    folder: Path, labels: tuple[str, ...], fingerprint: str, report: DataReport
) -> None:
    content = {
        "format": FORMAT,
        "labels": labels,
        "fingerprint": fingerprint,
        "report": asdict(report),
    }
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=2), encoding="utf-8")


def open_prepared(folder: Path) -> PreparedData:
    """Memory-maps what `prepare` wrote: what every worker calls. The first time that a process
    opens a folder it reads all of it, for its checksums (about 3 seconds for each GB). Raises
    `DataError` where there is nothing, or it is damaged (DamagedCache) or of before (OlderCache).
    """
    used_now(folder)
    try:
        _check_once(folder, _stamps(folder))
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return _opened(folder, content)
    except FileNotFoundError as error:
        raise DataError(
            f"no prepared data in '{folder}'; on more than one node cluster.cache_path must be "
            "shared storage"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:  # Arrow's errors are ValueErrors
        raise DamagedCache(
            f"the prepared data in '{folder}' are damaged: {' '.join(str(error).split())}. Run the "
            "same command again, which makes them anew."
        ) from error


@cache
def _check_once(folder: Path, _: tuple[Any, ...]) -> None:
    """Check a folder that has not changed since only once: a slot opens it for every job."""
    check(folder)


def _stamps(folder: Path) -> tuple[Any, ...]:
    files = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)


def _opened(folder: Path, content: Mapping[str, Any]) -> PreparedData:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}, this version reads {FORMAT}")
    report = content["report"]
    splits = {str(split): _open_split(folder / f"{split}.arrow") for split in SPLITS}
    for name, split in splits.items():
        if len(split) != report["splits"][name]["documents"]:
            raise ValueError(
                f"{name}.arrow holds {len(split)} documents, not "
                f"{report['splits'][name]['documents']}"
            )
    return PreparedData(
        splits=splits,
        labels=tuple(content["labels"]),
        fingerprint=content["fingerprint"],
        report=DataReport(
            splits={split: SplitReport(**numbers) for split, numbers in report["splits"].items()},
            dropped=report["dropped"],
            first_dropped=tuple(report["first_dropped"]),
            seconds=0.0,
            cached=True,
        ),
        folder=folder,
    )


def _open_split(path: Path) -> TokenizedSplit:
    import pyarrow as pa

    table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    if FULL_LENGTH not in table.column_names:
        raise OlderCache(
            f"the prepared data in '{path.parent}' were written by an earlier version, which did "
            "not keep how long documents were before they were cut. Run the same command again, "
            "which makes them anew."
        )
    if "chunk_lengths" in table.column_names:
        lengths = [
            np.array(
                [len(each) * max(each) for each in table["chunk_lengths"].to_pylist()],
                dtype=np.int32,
            )
        ]
    else:
        lengths = [
            np.diff(chunk.offsets.to_numpy()).astype(np.int32)
            for chunk in table["input_ids"].chunks
        ]
    return TokenizedSplit(np.concatenate(lengths), table)
