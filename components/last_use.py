"""When a folder that can be made again was last used: its own time of change, set anew by whoever
opens it. What nobody has used for long may be removed (pipelines/gc.py).
"""

import os
from contextlib import suppress
from pathlib import Path


def used_now(folder: Path) -> None:
    """Note that the folder is used. One that may only be read keeps its time."""
    with suppress(OSError):
        os.utime(folder)


def last_used(folder: Path) -> float:
    """Seconds since 1970. Raises OSError where it is gone."""
    return folder.lstat().st_mtime
