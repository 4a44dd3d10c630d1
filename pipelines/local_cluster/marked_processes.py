"""Processes that belong to one local cluster, told apart by a mark in their environment.

A mark is inherited by everything that a process starts, and no other process has it: a process id
that was given to someone else meanwhile, or another Ray cluster on the same machine, can not be
mistaken for ours.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "PREFIXPROP_CLUSTER"
LEADERS_SECONDS = 15.0
REST_SECONDS = 2.0


def spawn(command: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
    """Start a process in a session of its own, output to `log`, and return its id."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process.returncode = (
        0  # it outlives this program on purpose; keeps the interpreter from warning about it
    )
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
    """End every process with the mark and return how many there were: first the leaders, which end
    their own children in order; then whatever is left, in the end by force.
    """
    found = members(mark)
    leading = [process for process in found if process.pid in leaders]
    for process in leading:
        _unless_gone(process.terminate)
    psutil.wait_procs(leading, timeout=LEADERS_SECONDS)
    psutil.wait_procs(found, timeout=REST_SECONDS)
    for send in ("terminate", "kill"):
        left = members(mark)
        for process in left:
            _unless_gone(getattr(process, send))
        psutil.wait_procs(left, timeout=REST_SECONDS)
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
