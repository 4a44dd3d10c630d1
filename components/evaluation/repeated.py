"""One method's answers to the same documents by several seeds, and how two methods differ on them.

Documents are the unit of chance: the seeds' answers to one document are averaged, or kept together
when documents are drawn again, so that more seeds make no document count twice. What is not in
these intervals is the chance of drawing other seeds. Shapes: R seeds, N documents, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from components.evaluation.bootstrap import bootstrap_interval
from components.evaluation.by_length import ece_if_calibrated
from components.evaluation.calibration import Booleans, Floats, Integers, ece
from components.evaluation.metrics import SMALLEST_PROBABILITY, accuracy_interval

Measure = Literal["accuracy", "nll", "ece"]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class RepeatedAnswers:
    """`probabilities_RNC`; `label_ids_N`; `lengths_N` in tokens. All seeds answered the same
    documents in the same order.
    """

    probabilities_RNC: Floats
    label_ids_N: Integers
    lengths_N: Integers

    @property
    def num_documents(self) -> int:
        return len(self.label_ids_N)

    def of(self, rows: Integers | Booleans) -> "RepeatedAnswers":
        """The answers to some of the documents."""
        return RepeatedAnswers(
            self.probabilities_RNC[:, rows], self.label_ids_N[rows], self.lengths_N[rows]
        )

    @property
    def correct_RN(self) -> Booleans:
        correct_RN: Booleans = self.probabilities_RNC.argmax(axis=2) == self.label_ids_N
        return correct_RN

    @property
    def nll_RN(self) -> Floats:
        """Nats."""
        of_label_RN = self.probabilities_RNC[
            :, np.arange(self.num_documents), self.label_ids_N
        ].astype(np.float64)
        return -np.log(np.maximum(of_label_RN, SMALLEST_PROBABILITY))

    def measure(self, name: Measure, rows: Integers | None = None) -> float:
        """Accuracy and NLL (nats) averaged over documents and seeds; ECE (15 bins) of all answers
        together.
        """
        chosen = np.arange(self.num_documents) if rows is None else rows
        if name == "accuracy":
            return float(self.correct_RN[:, chosen].mean())
        if name == "nll":
            return float(self.nll_RN[:, chosen].mean())
        return ece(
            self.probabilities_RNC.max(axis=2)[:, chosen].ravel(),
            self.correct_RN[:, chosen].ravel(),
        )

    def estimate(self, name: Measure) -> Estimate:
        """With Wilson's interval for accuracy (of as many documents as there are, however many
        seeds) and the bootstrap's for the others.
        """
        value = self.measure(name)
        if name == "accuracy":
            return Estimate(
                value, *accuracy_interval(round(value * self.num_documents), self.num_documents)
            )
        return Estimate(
            value, *bootstrap_interval(self._statistic(name), self.num_documents, least=0.0)
        )

    def ece_if_calibrated(self) -> float:
        """What ECE honest answers with these confidences to as many documents would show."""
        return ece_if_calibrated(self.probabilities_RNC.max(axis=2))

    def _statistic(self, name: Measure) -> Callable[[Integers], float]:
        """`measure` as a function of the rows alone, with what does not depend on them worked out
        once.
        """
        confidence_RN, correct_RN = self.probabilities_RNC.max(axis=2), self.correct_RN
        if name == "ece":
            return lambda rows: ece(confidence_RN[:, rows].ravel(), correct_RN[:, rows].ravel())
        mean_N = (correct_RN if name == "accuracy" else self.nll_RN).mean(axis=0)
        return lambda rows: float(mean_N[rows].mean())


def paired_difference(first: RepeatedAnswers, second: RepeatedAnswers, name: Measure) -> Estimate:
    """`first` minus `second` on the same documents, with a paired bootstrap over documents. Raises
    ValueError where the documents differ.
    """
    _check_paired(first, second)
    of_first, of_second = first._statistic(name), second._statistic(name)
    interval = bootstrap_interval(
        lambda rows: of_first(rows) - of_second(rows), first.num_documents
    )
    return Estimate(first.measure(name) - second.measure(name), *interval)


def trend_per_doubling(first: RepeatedAnswers, second: RepeatedAnswers) -> Estimate:
    """How much the difference in accuracy, `first` minus `second`, grows with every doubling of
    document length: the slope of a least-squares line, with a bootstrap over documents.
    """
    _check_paired(first, second)
    difference_N = first.correct_RN.mean(axis=0) - second.correct_RN.mean(axis=0)
    doublings_N = np.log2(first.lengths_N)

    def slope(rows: Integers) -> float:
        centred = doublings_N[rows] - doublings_N[rows].mean()
        spread = float(centred @ centred)
        return float(centred @ difference_N[rows]) / spread if spread else 0.0

    return Estimate(
        slope(np.arange(first.num_documents)), *bootstrap_interval(slope, first.num_documents)
    )


def _check_paired(first: RepeatedAnswers, second: RepeatedAnswers) -> None:
    if not np.array_equal(first.label_ids_N, second.label_ids_N) or not np.array_equal(
        first.lengths_N, second.lengths_N
    ):
        raise ValueError(
            "a paired difference needs answers to the same documents in the same order"
        )
