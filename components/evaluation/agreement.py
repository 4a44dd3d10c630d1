"""How far the answers of one form of a model are from those of another, on the same documents.
Shapes: N documents, C classes.
"""

from dataclasses import dataclass

import numpy as np

from components.evaluation.calibration import Floats


@dataclass(frozen=True)
class Agreement:
    """Largest and root mean square difference of logits; the latter also relative to the spread of
    the first model's logits; share of documents with the same answer.
    """

    largest_difference: float
    rms_difference: float
    relative_difference: float
    same_answers: float


def agreement(first_NC: Floats, second_NC: Floats) -> Agreement:
    """Of logits (N, C). What is added to all logits of a document changes no answer, so every row
    is centred first. Raises ValueError for other shapes.
    """
    if first_NC.shape != second_NC.shape or first_NC.ndim != 2 or len(first_NC) == 0:
        raise ValueError(
            f"two sets of logits (N, C) are needed, got {first_NC.shape} and {second_NC.shape}"
        )
    first, second = (
        logits.astype(np.float64) - logits.mean(axis=1, keepdims=True)
        for logits in (first_NC, second_NC)
    )
    rms = float(np.sqrt(np.square(first - second).mean()))
    spread = float(np.sqrt(np.square(first - first.mean(axis=0)).mean()))
    return Agreement(
        largest_difference=float(np.abs(first - second).max()),
        rms_difference=rms,
        relative_difference=rms / spread if spread else float(rms > 0),
        same_answers=float((first.argmax(axis=1) == second.argmax(axis=1)).mean()),
    )
