"""Files that somebody else wrote, looked at before anything believes them: only regular files are
opened, no more is read than the limit says, and a safetensors file is known by its header.

The fact a newcomer gets wrong: opening a named pipe waits for a writer for ever, and the size that
a file claims costs nothing (a sparse one takes no room on the disk).
"""

import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

JSON_BYTES = 64 * 1024**2
HEADER_BYTES = 16 * 1024**2
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
GIT_ANNEX_POINTER = b"/annex/objects/"

DTYPE_BITS: Mapping[str, int] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}
"""Numbers that safetensors files hold, and their bits."""


class ForeignFileError(Exception):
    """What is wrong with the file, as the end of a sentence that starts with its path."""


@dataclass(frozen=True)
class StoredTensor:
    """What the header says of one tensor. `dtype`: `F32`, `BF16`, ..."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


def open_foreign(path: Path) -> BufferedReader:
    """Open a regular file, links followed, never waiting. Raises FileNotFoundError, or
    ForeignFileError for any other kind of file and for one that may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ForeignFileError(f"cannot be read: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ForeignFileError("is no regular file")
    return os.fdopen(descriptor, "rb")


def start_of(path: Path, count: int = 256) -> bytes:
    """The first bytes. Raises as `open_foreign`."""
    with open_foreign(path) as file:
        return file.read(count)


def read_json(path: Path, *, most_bytes: int = JSON_BYTES) -> Any:
    """The values in a JSON file. Raises FileNotFoundError, or ForeignFileError where it is no JSON:
    NaN, Infinity and a key given twice are none either.
    """
    with open_foreign(path) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ForeignFileError(f"has more than {most_bytes:,} bytes")
    return parsed_json(content, path)


def parsed_json(content: bytes, path: Path) -> Any:
    """As `read_json`, of the content of a file. `path` tells whether it is a stand-in."""
    if reason := stand_in(content, path):
        raise ForeignFileError(reason)
    try:
        return json.loads(content, parse_constant=_no_number, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        told = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ForeignFileError(f"is not readable as JSON: {told}") from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {json.dumps(repeated)[:100]} is given twice")
    return found


def stand_in(start: bytes, path: Path) -> str | None:
    """What a file is that only stands for the real one, by its first bytes; None: it does not."""
    if start.startswith(LFS_POINTER):
        return (
            "is a pointer of Git LFS in place of the file. Get the file itself: git lfs pull, in "
            f"the repository that '{path.parent}' came from"
        )
    if start.lstrip().startswith(GIT_ANNEX_POINTER):
        return "is a pointer of git-annex in place of the file. Get the file itself: git annex get"
    if start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page in place of the file. Download the file itself"
    if not start:
        return "is empty. Get it again"
    return None


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Name -> what a safetensors file says of each tensor; none is read.

    Raises FileNotFoundError, or ForeignFileError where the header is broken or the file is shorter
    or longer than it says.
    """
    with open_foreign(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(256)
        if reason := stand_in(start, path):
            raise ForeignFileError(reason)
        length = int.from_bytes(start[:8], "little")
        if size < 8 or length > min(HEADER_BYTES, size - 8):
            raise ForeignFileError("is not readable as safetensors: it has no such header")
        file.seek(8)
        header = parsed_json(file.read(length), path)
    if not isinstance(header, dict):
        raise ForeignFileError("is not readable as safetensors: its header is no object")
    header.pop("__metadata__", None)
    try:
        found = {name: _stored(values) for name, values in header.items()}
        ends = sorted(tuple(values["data_offsets"]) for values in header.values())
    except (KeyError, TypeError, ValueError) as error:
        raise ForeignFileError(
            f"is not readable as safetensors: its header is broken ({error})"
        ) from error
    _check_ends(ends, size - 8 - length)
    return found


def _stored(values: Any) -> StoredTensor:
    shape, (start, end) = values["shape"], values["data_offsets"]
    if not all(type(size) is int and size >= 0 for size in (*shape, start, end)):
        raise ValueError("a size is no number")
    tensor = StoredTensor(str(values["dtype"]), tuple(shape))
    bits = DTYPE_BITS.get(tensor.dtype)
    if bits is None:
        raise ValueError(f"dtype {tensor.dtype[:20]}")
    if tensor.numbers * bits != (end - start) * 8:
        raise ValueError(f"{tensor.dtype} {list(shape)} has not {end - start} bytes")
    return tensor


def _check_ends(ends: list[tuple[int, int]], data_bytes: int) -> None:
    place = 0
    for start, end in ends:
        if start != place:
            raise ForeignFileError("is not readable as safetensors: its tensors overlap")
        place = end
    if place != data_bytes:
        kind = "cut off" if place > data_bytes else "longer than its header says"
        raise ForeignFileError(
            f"is {kind}: its tensors have {place:,} bytes and it holds {data_bytes:,}. Get it again"
        )
