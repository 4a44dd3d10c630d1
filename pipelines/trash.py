"""How something is removed: renamed into a trash folder first, then deleted. Killed in between, it
is gone from where it was, whole, and the next removal finishes the work.

The fact a newcomer gets wrong: the trash lies on top of the storage, not beside what is removed:
there, its parts would be found as searches and trials.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from components.atomic_file import synced

TRASH = ".trash"


def throw_away(path: Path, root: Path) -> None:
    """Remove a folder or file below `root`, of which the disk is the same. Raises OSError."""
    trash = root / TRASH
    trash.mkdir(exist_ok=True)
    target = trash / f"{path.name}-{secrets.token_hex(4)}"
    os.replace(path, target)
    synced(path.parent)
    _delete(target)


def left_in_trash(root: Path) -> Iterator[Path]:
    """What a removal that was killed did not come to delete."""
    trash = root / TRASH
    yield from sorted(trash.iterdir()) if trash.is_dir() and not trash.is_symlink() else ()


def empty_trash(root: Path) -> None:
    """Delete what is in the trash."""
    for path in left_in_trash(root):
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
