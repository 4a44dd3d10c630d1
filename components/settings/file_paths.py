"""Paths of files and folders: how a setting or an option names one, and what is said where nothing
can be written there.

YAML expands nothing, and a shell leaves `--output=~/x` as it is; taken literally, a folder named
"~" appears. So every path goes through `expand_path`: the settings by their types `FilePath` and
`FolderPath`, the command line by its options. A relative path stays relative.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from components.errors import ConfigError

LONGEST_NAME_BYTES = 255
# What a disk answers that somebody who owns it can mend. FileNotFoundError is not among them: it
# names an input that is missing more often than a folder that cannot be made.
DISK_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST),
    }
)
FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
FULL_TEXT = "No space left on device"
FULL_BYTES = 16 * 1024**2
"""A file system with less than this left counts as full."""

_written: dict[Path, str] = {}


def expand_path(path: str) -> str:
    """`~`, `~user`, `$NAME` and `${NAME}` replaced; what is not known stays as it is."""
    return os.path.expanduser(os.path.expandvars(path))


def _checked(path: str) -> str:
    expanded = expand_path(path)
    if not expanded.strip():
        raise ValueError("is empty; give a path")
    if "\0" in expanded or any("\ud800" <= character <= "\udfff" for character in expanded):
        raise ValueError("holds a character that no path can hold; type it again")
    longest = max(len(os.fsencode(part)) for part in expanded.split("/"))
    if longest > LONGEST_NAME_BYTES:
        raise ValueError(
            f"has a part of {longest} bytes, and the name of a file or folder holds at most "
            f"{LONGEST_NAME_BYTES}; shorten it"
        )
    return expanded


def _folder(path: str) -> str:
    expanded = _checked(path)
    unknown = re.search(r"\$\w+|\$\{\w+\}", expanded)
    if unknown or expanded.startswith("~"):
        missing = unknown[0] if unknown else expanded.partition("/")[0]
        raise ValueError(
            f"{missing} is not known here, and a folder of that name is surely not meant; set it, "
            "or write the path out"
        )
    return expanded


FilePath = Annotated[str, AfterValidator(_checked)]
"""Path of a file or folder that is read."""
FolderPath = Annotated[str, AfterValidator(_folder)]
"""Path of a folder that is made where it is not there."""


def writable_folder(folder: Path, setting: str) -> Path:
    """The folder, made where it was not there, once a file could be written into it. Raises
    ConfigError that names the setting and the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".prefixprop-") as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        raise ConfigError(
            f"{setting}: nothing can be written below '{_shown(folder)}' ({error.strerror}). Give "
            "another folder, or free space and allow writing there."
        ) from error
    _written[folder.absolute()] = setting
    return folder


@contextmanager
def writing(folder: Path, setting: str) -> Iterator[None]:
    """A block that writes below the folder. Raises ConfigError where nothing can be written there,
    or no more in the course of it.
    """
    writable_folder(folder, setting)
    try:
        yield
    except OSError as error:
        if (line := disk_problem(error)) is None:
            raise
        raise ConfigError(line) from error


def disk_problem(error: BaseException) -> str | None:
    """One line on what the disk refused, with the path and the setting that it belongs to; None
    where something else went wrong. Looks at causes too.
    """
    cause = _disk_error(error)
    if cause is not None and cause.filename is not None:
        path = Path(os.fsdecode(cause.filename)).absolute()
        settings = (name for folder, name in _written.items() if path.is_relative_to(folder))
        setting = next(settings, "")
        return (
            f"{setting + ': ' if setting else ''}'{_shown(path)}' cannot be read or written "
            f"({cause.strerror}). Give another path, or free space and allow it there."
        )
    # Libraries that are no Python give the text alone.
    if (cause is not None and cause.errno in FULL_ERRORS) or FULL_TEXT in str(error):
        reason = cause.strerror if cause is not None else FULL_TEXT
        return f"{reason}: nothing more can be written. {_full_places()}What was finished stays."
    return None


def _disk_error(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            return error
        error = error.__cause__
    return None


def _full_places() -> str:
    full = [
        f"{setting} ('{_shown(folder)}')"
        for folder, setting in _written.items()
        if folder.is_dir() and shutil.disk_usage(folder).free < FULL_BYTES
    ]
    where = ", ".join(full) or tempfile.gettempdir()
    return f"Free space, or give another folder, at {where}. "


def _shown(path: Path) -> str:
    """A path as a message shows it: one too long for a file system is cut."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:300]}..."
