"""The interface that models registered until commit befcae5 import (components/moved_names.py).
Today's models import components/inference/classifier.py.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

BATCH_SIZE = 8


class Classifier:
    """A live adapter with its task's name, and a method of its own for questions."""

    def __init__(self, classifier: Any) -> None:
        self._classifier = classifier
        self.task: str = classifier.task.name

    def answers(
        self, asked: Sequence[Any], *, batch_size: int = BATCH_SIZE
    ) -> Iterator[dict[str, Any]]:
        found: Iterator[dict[str, Any]] = self._classifier.answers(asked, batch_size=batch_size)
        return found

    question_answers = answers


def load_classifier(folder: Path, *, cache_path: Path | None = None) -> Classifier:
    """As components.inference.classifier.load_classifier."""
    # By name: a registry is handed what it packages and knows no package beside it.
    inference = import_module("components.inference.classifier")
    return Classifier(inference.load_classifier(folder, cache_path=cache_path, trusted=True))
