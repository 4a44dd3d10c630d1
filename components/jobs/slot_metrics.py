"""A slot's numbers at Ray's own metrics endpoint, from what its ranks tell: how fast, how good, how
much memory, and when something last moved.

The slot speaks for its ranks: one that is stopped or killed leaves the time of its last sign there
to be seen. The fact a newcomer gets wrong: Ray serves a gauge for twenty seconds after its process
has ended, and puts `ray_` before each name (infra/monitoring asks for these).
"""

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ray.util.metrics import Counter, Gauge

from components.training.recent_steps import mean_loss

if TYPE_CHECKING:
    from components.jobs.words import Word
    from components.training.recent_steps import Step

SMOOTHED_STEPS = 20


class SlotMetrics:
    """Of one slot. `experiment` is the label by which all of it is asked for."""

    def __init__(self, experiment: str) -> None:
        self._label = {"experiment": experiment}
        keys = ("experiment",)
        self._steps = Counter("prefixprop_steps", "Optimizer steps.", keys)
        self._tokens = Counter("prefixprop_tokens", "Text tokens trained on.", keys)
        self._seconds = Gauge(
            "prefixprop_step_seconds", f"Mean of the last {SMOOTHED_STEPS} steps.", keys
        )
        self._loss = Gauge(
            "prefixprop_train_loss", "Mean over the same steps, of rank 0's documents.", keys
        )
        self._progress = Gauge(
            "prefixprop_progress_timestamp_seconds",
            "Unix time of the last micro-batch, trained on or evaluated.",
            keys,
        )
        self._memory = Gauge(
            "prefixprop_worker_memory_bytes",
            "Memory of a worker: resident (host), the most that tensors took (gpu).",
            ("experiment", "rank", "kind"),
        )
        self._told: dict[int, Word] = {}
        self._recent: deque[Step] = deque(maxlen=SMOOTHED_STEPS)

    def hear(self, word: "Word") -> None:
        """A rank told how far it is."""
        before = self._told.get(word.rank)
        self._told[word.rank] = word
        if before is not None and before.pid != word.pid:
            before = None
        if before is None or before.beats != word.beats:
            self._progress.set(time.time(), self._label)
        for kind, amount in (("host", word.memory_bytes), ("gpu", word.gpu_bytes)):
            if amount:
                label: Mapping[str, str] = {"rank": str(word.rank), "kind": kind}
                self._memory.set(amount, {**self._label, **label})
        if word.rank == 0:
            self._hear_steps(word, before)

    def _hear_steps(self, word: "Word", before: "Word | None") -> None:
        """Steps are all ranks' together: one of them tells."""
        made = word.made - (before.made if before else 0)
        tokens = word.tokens - (before.tokens if before else 0)
        if made > 0:
            self._steps.inc(made, self._label)
        if tokens > 0:
            self._tokens.inc(tokens, self._label)
        steps = [step for each in word.steps.values() for step in each]
        if steps:
            self._recent.extend(sorted(steps, key=lambda step: step.ended_at))
            recent = tuple(self._recent)
            self._seconds.set(sum(step.seconds for step in recent) / len(recent), self._label)
            self._loss.set(mean_loss(recent), self._label)
