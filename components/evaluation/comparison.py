"""From the answers of every method, task and seed to a table of means with intervals and a list of
corrected pairwise differences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from components.evaluation.calibration import Floats, Integers
from components.evaluation.significance import (
    MOST,
    STATISTICS,
    BootstrapDifference,
    Interval,
    McNemar,
    holm,
    mcnemar,
    paired_bootstrap,
    score_interval,
    seed_averaged_correct,
    seed_interval,
)

SCORES = (
    "accuracy",
    "macro_f1",
    "ece",
    "adaptive_ece",
    "brier",
    "nll",
    "calibrated_ece",
    "calibrated_adaptive_ece",
    "calibrated_brier",
    "calibrated_nll",
)
"""Test scores of the table; `calibrated_`: at the temperature fitted on validation documents.
Accuracy and macro F1 do not change with it.
"""
COMPARED = ("accuracy", "macro_f1", "ece", "brier")
"""Scores that pairs of methods are tested on."""
COSTS = ("tokens_per_second", "seconds", "core_hours", "peak_memory_bytes")


@dataclass(frozen=True)
class SeedResult:
    """One training at the chosen point. `probabilities_NC` and `calibrated_NC`: of the test
    documents before and after the temperature; `scores`: SCORES; `costs`: COSTS where known.
    """

    seed: int
    scores: Mapping[str, float]
    costs: Mapping[str, float]
    probabilities_NC: Floats = field(repr=False)
    calibrated_NC: Floats = field(repr=False)


@dataclass(frozen=True)
class MethodResult:
    """One method on one task. `own_parameters`: trained scalars but for the head's; `problem`: what
    is missing, in words, empty where nothing is.
    """

    task: str
    method: str
    point: Mapping[str, Any]
    seeds: tuple[SeedResult, ...]
    own_parameters: int | None
    head_parameters: int | None
    problem: str = ""


@dataclass(frozen=True)
class ComparisonRow:
    """One line of the table. `scores` are over seeds; `document_intervals`: of the same means over
    resampled test documents, for the scores that pairs are tested on.
    """

    task: str
    method: str
    point: Mapping[str, Any]
    num_seeds: int
    scores: Mapping[str, Interval]
    document_intervals: Mapping[str, tuple[float, float]]
    costs: Mapping[str, float]
    own_parameters: int | None
    head_parameters: int | None
    problem: str


@dataclass(frozen=True)
class Pair:
    """Two methods on one task by one score, first minus second. `corrected`: p-value after Holm's
    correction over all pairs and tasks of this score.
    """

    task: str
    first: str
    second: str
    score: str
    bootstrap: BootstrapDifference
    corrected: float
    significant: bool
    mcnemar: McNemar | None = None
    mcnemar_corrected: float | None = None


@dataclass(frozen=True)
class TaskDocuments:
    """The test documents of a task: labels (N,), lengths in tokens (N,), and the accuracy of always
    answering the most frequent label.
    """

    label_ids_N: Integers = field(repr=False)
    lengths_N: Integers = field(repr=False)

    @property
    def count(self) -> int:
        return len(self.label_ids_N)

    @property
    def majority_accuracy(self) -> float:
        return float(np.bincount(self.label_ids_N).max() / self.count)


@dataclass(frozen=True)
class Comparison:
    """Everything that tables and figures show. `level`: of the intervals; a pair is significant
    below 1 - level after correction.
    """

    rows: tuple[ComparisonRow, ...]
    pairs: tuple[Pair, ...]
    results: tuple[MethodResult, ...] = field(repr=False)
    documents: Mapping[str, TaskDocuments]
    level: float

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.task for row in self.rows))

    def of_task(self, task: str) -> tuple[ComparisonRow, ...]:
        return tuple(row for row in self.rows if row.task == task)

    def pair(self, task: str, first: str, second: str, score: str) -> Pair | None:
        """The pair in this order, as stored."""
        return next(
            (
                p
                for p in self.pairs
                if (p.task, p.first, p.second, p.score) == (task, first, second, score)
            ),
            None,
        )


def compare_results(
    results: Sequence[MethodResult],
    documents: Mapping[str, TaskDocuments],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
) -> Comparison:
    """Means, intervals and all pairwise differences. Methods without a finished seed keep their
    row, with what is missing, and take part in no pair.
    """
    rows = tuple(
        _row(result, documents[result.task], level=level, resamples=resamples) for result in results
    )
    pairs = [
        pair
        for score in COMPARED
        for pair in _pairs(results, documents, score, level=level, resamples=resamples)
    ]
    return Comparison(rows, tuple(pairs), tuple(results), documents, level)


def _row(
    result: MethodResult, documents: TaskDocuments, *, level: float, resamples: int
) -> ComparisonRow:
    seeds = result.seeds
    scores = (
        {name: seed_interval([seed.scores[name] for seed in seeds], level=level) for name in SCORES}
        if seeds
        else {}
    )
    probabilities = [seed.probabilities_NC for seed in seeds]
    intervals = {
        name: score_interval(
            STATISTICS[name],
            probabilities,
            documents.label_ids_N,
            resamples=resamples,
            level=level,
            most=MOST[name],
        )
        for name in COMPARED
        if seeds
    }
    costs = {
        name: float(np.mean([seed.costs[name] for seed in seeds]))
        for name in COSTS
        if seeds and all(name in s.costs for s in seeds)
    }
    return ComparisonRow(
        task=result.task,
        method=result.method,
        point=result.point,
        num_seeds=len(seeds),
        scores=scores,
        document_intervals=intervals,
        costs=costs,
        own_parameters=result.own_parameters,
        head_parameters=result.head_parameters,
        problem=result.problem,
    )


def _pairs(
    results: Sequence[MethodResult],
    documents: Mapping[str, TaskDocuments],
    score: str,
    *,
    level: float,
    resamples: int,
) -> list[Pair]:
    couples = [
        (a, b) for a, b in combinations(results, 2) if a.task == b.task and a.seeds and b.seeds
    ]
    bootstraps, tests = [], []
    for first, second in couples:
        labels_N = documents[first.task].label_ids_N
        first_SNC, second_SNC = (
            [s.probabilities_NC for s in first.seeds],
            [s.probabilities_NC for s in second.seeds],
        )
        bootstraps.append(
            paired_bootstrap(
                STATISTICS[score], first_SNC, second_SNC, labels_N, resamples=resamples, level=level
            )
        )
        if score == "accuracy":
            tests.append(
                mcnemar(
                    seed_averaged_correct(first_SNC, labels_N),
                    seed_averaged_correct(second_SNC, labels_N),
                )
            )
    corrected = holm([bootstrap.p_value for bootstrap in bootstraps])
    corrected_tests = holm([test.p_value for test in tests])
    return [
        Pair(
            task=first.task,
            first=first.method,
            second=second.method,
            score=score,
            bootstrap=bootstraps[index],
            corrected=corrected[index],
            significant=corrected[index] < 1.0 - level,
            mcnemar=tests[index] if tests else None,
            mcnemar_corrected=corrected_tests[index] if tests else None,
        )
        for index, (first, second) in enumerate(couples)
    ]
