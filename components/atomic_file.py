"""A file that appears whole or not at all, and stays after a power cut; JSON state in such a file,
with its checksum.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.checksums import Damaged, checked, with_checksum


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling to write, with the same suffix; it takes the place of `target` when
    the block ends without an error, and is removed otherwise.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.unfinished{target.suffix}")
    try:
        yield temporary
        synced(temporary)
        temporary.replace(target)
        synced(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_state(file: Path, content: Mapping[str, Any], *, indent: int = 1) -> None:
    """Write values as JSON with their checksum, whole or not at all."""
    with atomic_file(file) as unfinished:
        text = json.dumps(with_checksum(content), indent=indent)
        unfinished.write_text(text + "\n", encoding="utf-8")


def read_state(file: Path) -> dict[str, Any]:
    """The values that `write_state` wrote, and those of files from before there were checksums.
    Raises Damaged (a ValueError) where they are others, and OSError.
    """
    try:
        return checked(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise Damaged(f"it is no text: {error.reason}") from error


def synced(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives know no sync
            raise
    finally:
        os.close(descriptor)
