"""What a rank tells of itself to its slot every two seconds, from a thread of its own: a silent
rank is stopped or gone, and what the slot has heard outlives the rank.
"""

import os
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from components.jobs.watchdog import WORD_SECONDS, stacks

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from components.training.recent_steps import Step

LAST_WORD_SECONDS = 5.0


@dataclass(frozen=True)
class Word:
    """Of one rank. `beats`: micro-batches so far; `made`, `tokens`: optimizer steps of the process
    and the tokens in them; `steps`: those since the word before, by the training that made them;
    `memory_bytes`: resident; `gpu_bytes`: the most that tensors took on the GPU, 0 without one.
    """

    rank: int
    pid: int
    node_id: str
    beats: int
    made: int = 0
    tokens: int = 0
    steps: "Mapping[str, tuple[Step, ...]]" = field(default_factory=dict)
    memory_bytes: int = 0
    gpu_bytes: int = 0


class Words:
    """In a rank's process: a thread that tells the slot how far the rank is, and gives its stacks
    when the slot asks for them.
    """

    def __init__(self, slot: "ActorHandle", rank: int) -> None:
        import ray

        self.slot, self.rank, self.told = slot, rank, 0
        self.node_id = ray.get_runtime_context().get_node_id()
        self._lock = threading.Lock()
        threading.Thread(target=self._tell, name="words", daemon=True).start()

    def _tell(self) -> None:
        import ray

        given = False
        # Without a slot there is nobody to tell, and a GPU that is lost here is lost to the
        # training too, which says so.
        with suppress(Exception):
            while True:
                asked = ray.get(self._send())
                if asked and not given:
                    self.slot.stacks.remote(self.rank, stacks())
                given = asked
                time.sleep(WORD_SECONDS)

    def _send(self) -> object:
        with self._lock:
            word = self._word()
            self.told = word.made
            return self.slot.word.remote(word)

    def last(self, error: BaseException) -> None:
        """Before the process ends with this error: what was not told yet, and where it came from.
        A slot that does not answer delays the end by a few seconds.
        """
        import ray

        where = "".join(traceback.format_exception(error))
        with suppress(ray.exceptions.RayError):
            ray.get(
                [self._send(), self.slot.stacks.remote(self.rank, f"{where}\n{stacks()}")],
                timeout=LAST_WORD_SECONDS,
            )

    def _word(self) -> Word:
        import psutil

        from components.training.pulse import PULSE
        from components.training.recent_steps import RECENT_STEPS

        made, tokens, steps = RECENT_STEPS.since(self.told)
        return Word(
            rank=self.rank,
            pid=os.getpid(),
            node_id=self.node_id,
            beats=PULSE.beats,
            made=made,
            tokens=tokens,
            steps=steps,
            memory_bytes=psutil.Process().memory_info().rss,
            gpu_bytes=_gpu_bytes(),
        )


def _gpu_bytes() -> int:
    """The most that tensors took on this process's GPU; nothing is imported for it."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return 0
    return int(torch.cuda.max_memory_allocated())
