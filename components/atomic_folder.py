"""A folder that appears whole or not at all, and stays after a power cut."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.atomic_file import synced
from components.checksums import seal


@contextmanager
def atomic_folder(
    target: Path, *, checksums: bool = False, predecessor: Path | None = None
) -> Iterator[Path]:
    """Yield a temporary sibling to write into; it takes the place of `target` when the block ends
    without an error.

    `checksums`: leave those of all files in it, for `components.checksums.check`; `predecessor`:
    where the folder that was there before goes, instead of being removed.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    os.chmod(temporary, 0o755)
    try:
        yield temporary
        if checksums:
            seal(temporary)
        for path in (*temporary.rglob("*"), temporary):
            synced(path)
        # a folder cannot be renamed onto one that is not empty: a kill between the two renames is
        # mended by `recover`
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            os.replace(target, old / target.name)
            os.replace(temporary, target)
            if predecessor is not None:
                shutil.rmtree(predecessor, ignore_errors=True)
                os.replace(old / target.name, predecessor)
            shutil.rmtree(old)
        else:
            os.replace(temporary, target)
        synced(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover(target: Path) -> Path:
    """The same path, after whatever a killed writer of it left beside it: the old folder goes back
    where the new one had not come yet. For a folder that only one process writes.
    """
    for aside in sorted(target.parent.glob(f".{target.name}.old.*")):
        if (aside / target.name).exists() and not target.exists():
            os.replace(aside / target.name, target)
    for left in target.parent.glob(f".{target.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    return target
