"""Processes that belong to one local cluster, told apart by a mark in their environment.

A mark is inherited by everything that a process starts, and no other process has it: a process id
that was given to someone else meanwhile, or another Ray cluster on the same machine, can not be
mistaken for ours. Its first half names the state folder, so that the processes of a cluster are
found where the file that tells of them is lost.
"""

import os
import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psutil

from pipelines.local_cluster.access import PRIVATE_UMASK

MARK = "PREFIXPROP_CLUSTER"
SERVER = "PREFIXPROP_SERVER"
"""Which of a cluster's servers a process belongs to: `ray` or `mlflow`."""
LEADERS_SECONDS = 15.0
REST_SECONDS = 2.0
ROUNDS = 5
"""A dying raylet still starts workers: what is left is looked for again."""


def new_mark(state_folder: Path) -> str:
    """A mark that no other cluster has."""
    return f"{folder_mark(state_folder)}{secrets.token_hex(8)}"


def folder_mark(state_folder: Path) -> str:
    """What the marks of all clusters of a state folder begin with."""
    return f"{sha256(os.fsencode(state_folder.resolve())).hexdigest()[:16]}-"


def spawn(command: Sequence[str], environ: Mapping[str, str], log: Path) -> int:
    """Start a process in a session of its own, output to `log`, and return its id. What it and its
    children write is readable by this user alone.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=PRIVATE_UMASK,
        )
    process.returncode = (
        0  # it outlives this program on purpose; keeps the interpreter from warning about it
    )
    return process.pid


@dataclass(frozen=True)
class _Seen:
    """One process as it was found. `mark` and `server`: empty where its environment has none;
    `blank`: nothing is left of its environment.
    """

    process: psutil.Process
    parent: int
    session: int
    mark: str
    server: str
    blank: bool


def carries(pid: int | None, mark: str) -> bool:
    """Whether the process lives and is the one that was marked, not another with its id."""
    try:
        process = psutil.Process(pid) if pid is not None else None
        return (
            process is not None
            and process.environ().get(MARK) == mark
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.Error, OSError):
        return False


def members(
    mark: str,
    server: str | None = None,
    *,
    leaders: Sequence[int] = (),
    writing_in: Path | None = None,
) -> list[psutil.Process]:
    """Every live process that carries the mark, or, for the mark of a folder, one of that folder;
    those of one `server` where it is given.

    Ray's helpers write their title over their environment. They are known by their parent, by their
    session, whose first process is a member or gone or was one of the `leaders`, or by the logs
    that they have open below `writing_in`.
    """
    seen = {each.process.pid: each for each in _processes()}
    found = {
        pid
        for pid, each in seen.items()
        if (each.mark == mark or (mark.endswith("-") and each.mark.startswith(mark)))
        and server in (None, each.server)
    }
    orphaned = {pid for pid in leaders if pid not in seen}
    found |= {
        pid
        for pid, each in seen.items()
        if each.blank and (each.session in orphaned or _has_open(each.process, writing_in))
    }
    sessions = {
        session
        for session in (seen[pid].session for pid in found)
        if session in found or not psutil.pid_exists(session)
    }
    unmarked = {pid: each for pid, each in seen.items() if not each.mark}
    while more := {
        pid
        for pid, each in unmarked.items()
        if pid not in found and (each.parent in found or each.session in sessions)
    }:
        found |= more
    return [seen[pid].process for pid in sorted(found)]


def _has_open(process: psutil.Process, folder: Path | None) -> bool:
    try:
        return folder is not None and any(
            Path(file.path).is_relative_to(folder) for file in process.open_files()
        )
    except (psutil.Error, OSError):
        return False


def _processes() -> Iterator[_Seen]:
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            environ = process.environ()
            session = os.getsid(process.pid)
            marks = environ.get(MARK, ""), environ.get(SERVER, "")
            yield _Seen(process, process.ppid(), session, *marks, blank=not environ)
        except (psutil.Error, OSError):
            continue  # another user's process, or gone meanwhile


def stop(
    mark: str,
    *,
    leaders: Sequence[int] = (),
    server: str | None = None,
    writing_in: Path | None = None,
) -> int:
    """End every member (of one `server` where it is given) and return how many there were: first
    the leaders, which end their own children in order; then whatever is left, in the end by force.
    """
    found = members(mark, server, leaders=leaders, writing_in=writing_in)
    leading = [process for process in found if process.pid in leaders]
    for process in leading:
        _unless_gone(process.terminate)
    if leading:
        psutil.wait_procs(leading, timeout=LEADERS_SECONDS)
    psutil.wait_procs(found, timeout=REST_SECONDS if leading else 0)
    left = found
    for round_ in range(ROUNDS):
        # Those that were found stay ours when their parents are gone.
        running = {process for process in (*found, *left) if process.is_running()}
        left = [*{*running, *members(mark, server, leaders=leaders, writing_in=writing_in)}]
        if not left:
            break
        for process in left:
            _unless_gone(process.kill if round_ else process.terminate)
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
