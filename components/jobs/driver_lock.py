"""One driver at a time for a folder of trainings; the second one is told who holds it."""

import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from components.atomic_file import atomic_file
from components.errors import ConfigError

LOCK_FILE, HOLDER_FILE = "driver.lock", "driver.json"


@contextmanager
def held(folder: Path, *, what: str, other: str = "name (--set name=...)") -> Iterator[None]:
    """Hold `folder` for this driver alone; the lock ends with its process, however that ends.
    `what`: what runs there, `other`: what another one beside it has to change, for the message.
    Raises ConfigError where another driver has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigError(
            f"{what} still runs: {_holder(folder)} holds '{folder}'. Wait for its end, or end it "
            "first (Ctrl-C in its terminal, or: prefixprop jobs stop <id>). Another one at the "
            f"same time takes another {other}."
        ) from error
    try:
        note_holder(folder, what)
        yield
    finally:
        lock.release()


def holder_of(folder: Path) -> str | None:
    """Who holds the folder; None where nobody does. Nothing is written."""
    if not (folder / LOCK_FILE).exists():
        return None
    lock = FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return _holder(folder)
    lock.release()
    return None


def note_holder(folder: Path, what: str) -> None:
    """Leave word of this process for whoever finds the folder held."""
    values = {
        "what": what,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "user": _user(),
    }
    with atomic_file(folder / HOLDER_FILE) as file:
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _holder(folder: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        values = json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8"))
        return (
            f"process {values['process']} of {values['user']} on {values['host']} ({values['what']}"
            f", since {values['since']})"
        )
    return "another process"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())
