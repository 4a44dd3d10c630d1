"""What is kept of a training that failed or diverged: its last steps on every rank, its settings,
where its ranks were, and their memory.

The slot keeps it, not the ranks: a rank that is killed has told all but its last two seconds.
"""

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.atomic_file import read_state, write_state
from components.secrets import without_secrets
from components.settings import resolved

if TYPE_CHECKING:
    from components.jobs.job import Job
    from components.jobs.words import Word
    from components.training.recent_steps import Step

FLIGHT_FILE = "flight_record.json"
FORMAT = 1
KEPT_STEPS = 200
NO_STACKS = "none: the process ended without a word"


@dataclass
class _Rank:
    word: "Word"
    steps: "dict[str, deque[Step]]" = field(default_factory=dict)
    """By training."""


class FlightRecord:
    """Of one worker group. `stacks`: by rank, as far as they were told or seen."""

    def __init__(self) -> None:
        self.ranks: dict[int, _Rank] = {}
        self.last_heard: float | None = None
        self.stacks: dict[int, str] = {}

    def hear(self, word: "Word") -> None:
        """A rank told how far it is; trainings that it forgot are forgotten here too."""
        known = self.ranks.setdefault(word.rank, _Rank(word))
        before = known.steps if known.word.pid == word.pid else {}
        kept = {name: before.get(name) or deque(maxlen=KEPT_STEPS) for name in word.steps}
        for name, steps in word.steps.items():
            kept[name].extend(steps)
        known.word, known.steps, self.last_heard = word, kept, time.time()

    def steps(self, rank: int, job: "Job") -> "tuple[Step, ...]":
        """The last ones of this job on the rank; none where it had not begun it."""
        known = self.ranks.get(rank)
        return () if known is None else tuple(known.steps.get(str(job.checkpoint), ()))

    def nodes(self) -> set[str]:
        """Ids of the nodes on which its ranks are."""
        return {known.word.node_id for known in list(self.ranks.values())}

    def write(self, job: "Job", *, reason: str, cause: str) -> Path:
        """Write what is known of the job beside its record; a later failure takes its place. Raises
        OSError.
        """
        file = job.folder / FLIGHT_FILE
        write_state(file, self.content(job, reason=reason, cause=cause))
        return file

    def content(self, job: "Job", *, reason: str, cause: str) -> dict[str, Any]:
        """JSON-able. Steps are those of this job; a rank that had not begun it has none."""
        return {
            "format": FORMAT,
            "job": job.id,
            "reason": without_secrets(reason),
            "cause": cause,
            "written_at": time.time(),
            "config": resolved(job.cut),
            "ranks": {
                str(rank): {
                    "pid": known.word.pid,
                    "node": known.word.node_id,
                    "memory_bytes": known.word.memory_bytes,
                    "gpu_bytes": known.word.gpu_bytes,
                    "micro_batches": known.word.beats,
                    "stacks": without_secrets(self.stacks.get(rank, NO_STACKS)),
                    "steps": [_told(asdict(step)) for step in self.steps(rank, job)],
                }
                for rank, known in sorted(self.ranks.items())
            },
        }


def read_flight_record(folder: Path) -> dict[str, Any]:
    """That of the job in this folder. Raises OSError where there is none, Damaged."""
    return read_state(folder / FLIGHT_FILE)


def _told(step: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no number that is not finite."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in step.items()
    }
