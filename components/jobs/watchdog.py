"""Whether the ranks of a slot still move: a rank that is stopped, or a collective that never ends,
raises nothing by itself (Ray gives a silent process up after some 450 s, torch.distributed after
1,800 s).

Every rank sends word of itself from a thread of its own (words.py), so a silent rank is stopped or
gone, and ranks that are heard but make no step wait for something.
"""

import faulthandler
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

WORD_SECONDS = 2.0
PATIENCE = 2.0
"""Times the longest step so far that a step may take beyond the limit."""


@dataclass
class RankState:
    """What is known of a rank. Times are of the watching process's clock."""

    pid: int
    node_id: str
    heard: float
    beats: int
    moved: float


class Watchdog:
    """Of one worker group. `limit_seconds`: without a word of a rank, or without a step of any
    while there is work.
    """

    def __init__(self, limit_seconds: float) -> None:
        self.limit_seconds = limit_seconds
        self.ranks: dict[int, RankState] = {}
        self.longest = 0.0
        self.working_since: float | None = None

    def word(self, rank: int, pid: int, node_id: str, *, beats: int, now: float) -> None:
        """A rank told how far it is."""
        known = self.ranks.get(rank)
        if known is None or known.pid != pid:
            self.ranks[rank] = RankState(pid, node_id, heard=now, beats=beats, moved=now)
            return
        known.heard = now
        if beats != known.beats:
            if self.working_since is not None and known.moved > self.working_since:
                self.longest = max(self.longest, now - known.moved)
            known.beats, known.moved = beats, now

    def hanging(self, now: float, *, working: bool) -> str | None:
        """Why the group is taken to hang, in words; None while it is not."""
        if not working:
            self.working_since = None
        elif self.working_since is None:
            self.working_since = now
        for rank, state in list(self.ranks.items()):
            if now - state.heard > self.limit_seconds:
                return (
                    f"rank {rank} (process {state.pid}) is silent since {now - state.heard:.0f} s"
                )
        if self.working_since is None or not self.ranks:
            return None
        last = max([self.working_since, *(state.moved for state in list(self.ranks.values()))])
        if now - last > self.limit_seconds + PATIENCE * self.longest:
            return (
                f"no rank made a step for {now - last:.0f} s (the longest so far took "
                f"{self.longest:.0f} s)"
            )
        return None

    def silent(self, now: float) -> list[int]:
        """Ranks that sent no word for a while."""
        return [
            rank for rank, state in list(self.ranks.items()) if now - state.heard > 2 * WORD_SECONDS
        ]


def stacks() -> str:
    """Where every thread of this process is."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def seen_from_outside(pid: int) -> str:
    """What the system says of a process of this machine that cannot answer."""
    lines = []
    for name in ("status", "wchan", "syscall"):
        with suppress(OSError):
            text = Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
            wanted = [line for line in text.splitlines() if name != "status" or _telling(line)]
            lines += [f"{name}: {line}" for line in wanted]
    return "\n".join(lines) or "no such process on this machine"


def _telling(line: str) -> bool:
    return line.startswith(("Name:", "State:", "VmRSS:", "Threads:", "voluntary"))
