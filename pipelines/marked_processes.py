"""Processes that belong to one local cluster, told apart by a mark in their environment.

A mark is inherited by everything that a process starts, and no other process has it: a process id that was given to someone else meanwhile, or another Ray cluster on the
same machine, can not be mistaken for ours.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "PREFIXPROP_CLUSTER"
STOP_GRACE_SECONDS = 15.0


def spawn(command: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
    """Start a process in a session of its own, output to `log`, and return its id."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )
    process.returncode = 0  # it outlives this program on purpose; keeps the interpreter from warning about it
    return process.pid


def members(mark: str) -> list[psutil.Process]:
    """Every live process that carries the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # another user's process, or gone meanwhile
    return found


def stop(mark: str, *, leaders: Sequence[int]) -> int:
    """End every process with the mark and return how many there were: first the leaders, which end their own children in order, after a grace period whatever is left."""
    found = members(mark)
    for process in [process for process in found if process.pid in leaders] or found:
        _unless_gone(process.terminate)
    psutil.wait_procs(found, timeout=STOP_GRACE_SECONDS)
    left = members(mark)
    for process in left:
        _unless_gone(process.kill)
    psutil.wait_procs(left, timeout=STOP_GRACE_SECONDS)
    return len(found)


def memory_bytes(processes: Sequence[psutil.Process]) -> int:
    """Resident memory of the processes; memory that they share is counted once per process."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # gone meanwhile
    return total


def _unless_gone(send: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):
        send()
