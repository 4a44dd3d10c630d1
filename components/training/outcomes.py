"""What a training tells and leaves, as plain values: what travels between processes and is written
into records. No torch here: whoever reads them may be a driver that never loads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from components.evaluation import LengthBucket, ReliabilityDiagram

Outcome = Literal["completed", "stopped", "diverged"]
Wanted = Literal["steps", "stop", "leave"]
"""Of a training by whoever asked for it: more steps; its end; or that it leaves its place with a
checkpoint, to go on elsewhere.
"""
WANTED: tuple[Wanted, ...] = get_args(Wanted)


@dataclass(frozen=True)
class Report:
    """What one evaluation tells. `metrics` holds train/..., validation/..., step, epoch, tokens,
    seconds, tokens_per_second; `done`: it was the last one.
    """

    evaluation: int
    step: int
    metrics: Mapping[str, float]
    is_best: bool
    done: bool
    trainable_parameters: int


@dataclass(frozen=True)
class Progress:
    """Where a training stands. `tokens`: text tokens trained on, padding and prefix excluded;
    `seconds`: training time, evaluation included.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluations: int = 0
    best_evaluation: int = 0
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def of_all_documents(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a final evaluation, those on validation documents under a name of their own: while
    it trained, the adapter may have been measured on a part of them only.
    """
    return {
        name.replace("validation/", "validation_all/", 1)
        if name.startswith("validation/")
        else name: value
        for name, value in metrics.items()
    }


@dataclass(frozen=True)
class FinalEvaluation:
    """The best adapter on the whole validation and test splits: its artifact folder, metrics, and
    what was trained: all of it, and the head's part.

    `metrics`: validation_all/... and test/..., and of tasks that are calibrated
    test_calibrated/..., which is what `predict` answers; `calibration`, `reliability` and
    `by_length` (of the calibrated test answers) are empty where the task has none.
    """

    folder: Path
    metrics: Mapping[str, float]
    calibration: Mapping[str, Any]
    reliability: "ReliabilityDiagram | None"
    by_length: "tuple[LengthBucket, ...]"
    trainable_parameters: int
    head_parameters: int
    seconds_per_document: float | None = None
    """Of the test documents, answered in batches by all ranks; None in older records."""
