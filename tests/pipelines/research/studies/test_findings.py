"""Findings say what the numbers say, and no more; figures are drawn from the same numbers."""

from typing import Any

import numpy as np
import pytest

from components.evaluation.repeated import RepeatedAnswers
from pipelines.research.studies import (
    kernel_figures,
    kernel_findings,
    length_figures,
    length_findings,
)
from pipelines.research.studies.length import compared
from pipelines.research.studies.shorter_prefix import WAYS
from pipelines.research.studies.warm_start import reached

LENGTHS = np.repeat([512, 1024, 2048], 40)


def answers(accuracy_of_length: dict[int, float], seed: int) -> RepeatedAnswers:
    """Two classes, all labels 0, confidence 0.9: right with the given probability."""
    draw = np.random.default_rng(seed)
    right_N = draw.random(len(LENGTHS)) < np.array(
        [accuracy_of_length[length] for length in LENGTHS]
    )
    first_N = np.where(right_N, 0.9, 0.1)
    return RepeatedAnswers(
        np.stack([first_N, 1 - first_N], axis=1)[None], np.zeros(len(LENGTHS), dtype=int), LENGTHS
    )


def length_numbers(first: dict[int, float], other: dict[int, float]) -> dict[str, Any]:
    groups = {str(length): np.equal(LENGTHS, length) for length in (512, 1024, 2048)}
    part = compared(
        {"prefix_propagation": answers(first, 1), "head_only": answers(other, 2)}, groups
    )
    training = {"trainable_parameters": 10, "tokens": [1], "loss": [0.5], "seconds": [1.0]}
    part |= {"majority_accuracy": 0.25, "training": dict.fromkeys(part["overall"], training)}
    cells = {
        "0": {"value": 0.5, "low": 0.4, "high": 0.6},
        "1": {"value": 0.5, "low": 0.4, "high": 0.6},
    }
    part |= {"by_depth": dict.fromkeys(part["overall"], cells)}
    part |= {
        "by_length_and_depth": {
            method: {length: {"0": 0.5, "1": 0.25} for length in groups}
            for method in part["overall"]
        }
    }
    real = part | {"documents": {"train": 1, "validation": 1, "test": 1}, "max_tokens": 1024}
    task = {"labels": 4, "sentences": 2, "distractors": 1, "train_documents": 9}
    methods = {
        "methods": list(part["overall"]),
        "seeds": [10],
        "prefix_length": 8,
        "training_lengths": [512],
        "task": task,
    }
    return methods | {"needle": part, "real": real}


@pytest.mark.parametrize(
    ("first", "other", "verdict"),
    [
        ({512: 0.9, 1024: 0.9, 2048: 0.9}, {512: 0.9, 1024: 0.5, 2048: 0.2}, "grows with length"),
        ({512: 0.9, 1024: 0.5, 2048: 0.2}, {512: 0.9, 1024: 0.9, 2048: 0.9}, "shrinks with length"),
        (
            {512: 0.7, 1024: 0.7, 2048: 0.7},
            {512: 0.7, 1024: 0.7, 2048: 0.7},
            "shows no trend with length that the interval separates from 0",
        ),
    ],
)
def test_the_length_study_answers_its_question_by_the_interval(
    first: Any, other: Any, verdict: str
) -> None:
    numbers = length_numbers(first, other)
    text = length_findings.findings(numbers)
    assert text.count(f"over head_only in accuracy {verdict}") == 2  # needle and real
    assert set(length_figures.figures(numbers)) == {
        *(
            "needle_by_length.png",
            "needle_by_depth.png",
            "difference_by_length.png",
            "real_by_length.png",
        )
    }
    assert "real_by_length" not in length_findings.findings(numbers | {"real": None})
    assert set(length_figures.figures(numbers | {"real": None})) == {
        "needle_by_length.png",
        "needle_by_depth.png",
        "difference_by_length.png",
    }


def test_a_task_that_was_not_learnt_is_called_so() -> None:
    chance = {512: 0.25, 1024: 0.25, 2048: 0.25}
    text = length_findings.findings(length_numbers(chance, {512: 0.9, 1024: 0.9, 2048: 0.9}))
    assert "prefix_propagation: NOT distinguishable from chance" in text
    assert "head_only: above chance" in text


def estimate(value: float, half: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def kernel_numbers() -> dict[str, Any]:
    def shares(scale: float) -> dict[str, Any]:
        parts = {
            tokens: np.full((2, 3, 4), scale * 8 / (8 + tokens)).tolist() for tokens in (256, 512)
        }
        return {
            str(tokens): {
                "local_BLH": part,
                "first_BLH": part,
                "prefix_BLH": None,
                "spread_BL": None,
            }
            for tokens, part in parts.items()
        }

    measures = {
        "accuracy": estimate(0.6),
        "nll": estimate(1.0),
        "ece": estimate(0.2),
        "ece_if_calibrated": 0.1,
        "trainable_parameters": 5,
    }
    measures |= {"training_loss": [0.5], "alpha": None}
    worse = {"accuracy": estimate(-0.2), "nll": estimate(0.01), "ece": estimate(0.01)}
    variants = {"prefix_tuning": measures, "prefix_propagation": measures, "head_only": measures}
    variants["kernel_prefix, exp"] = measures | {
        "alpha": [[0.1, 0.2, 0.3]],
        "minus_softmax": worse,
        "softmax_counterpart": "prefix_tuning",
    }
    form = {
        "same_answers": 0.5,
        "relative_difference": 0.1,
        "largest_difference": 0.1,
        "accuracy": 0.5,
        "nll": 1.0,
        "ece": 0.1,
    }
    fit = {"alpha_L": [0.1, 0.2, 0.3], "explained_L": [0.5, 0.6, 0.7]}
    forms = dict.fromkeys(
        ("softmax", "input_dependent", "normalised", "additive", "no_prefix"), form
    )
    closeness = {
        method: {"forms": forms, "fits": {"normalised": fit, "additive": fit}}
        for method in ("prefix_tuning", "prefix_propagation")
    }
    mass = {
        f"{method}/{state}": shares(0.5) for method in closeness for state in ("initial", "trained")
    }
    numbers = {
        "documents": {"train": 1, "validation": 1, "test": 1},
        "max_tokens": 384,
        "prefix_length": 8,
        "attention_window": 128,
        "seeds": [10],
    }
    return numbers | {"variants": variants, "mass": mass, "closeness": closeness}


def test_the_kernel_study_names_only_differences_whose_interval_excludes_zero() -> None:
    text = kernel_findings.findings(kernel_numbers())
    line = next(
        line
        for line in text.splitlines()
        if line.startswith("* kernel_prefix, exp against prefix_tuning")
    )
    assert "accuracy -0.200 (-0.250 to -0.150) *" in line
    assert "nll" not in line
    assert "3 comparisons without correction" in text
    assert set(kernel_figures.figures(kernel_numbers())) == {
        "mass_by_length.png",
        "mass_by_head.png",
        "variants.png",
        "decomposition.png",
    }


def test_the_exponent_of_a_share_that_halves_with_every_doubling_is_minus_one() -> None:
    assert kernel_findings._exponent([256, 512, 1024], [0.4, 0.2, 0.1]) == pytest.approx(-1)
    assert kernel_figures.uniform_share(
        {"prefix_length": 8, "attention_window": 128}, "first", 256
    ) == pytest.approx(8 / 264)


@pytest.mark.parametrize(
    ("accuracies", "first", "lasting"),
    [
        ((0.2, 0.5, 0.4, 0.5, 0.6), 200, 400),
        ((0.2, 0.5, 0.4, 0.5, 0.4), 200, None),
        ((0.5, 0.6, 0.5, 0.7, 0.5), 100, 100),
        ((0.2, 0.3, 0.4, 0.4, 0.4), None, None),
    ],
)
def test_quality_is_reached_when_it_is_first_there_and_lasts_where_it_never_leaves(
    accuracies: tuple[float, ...], first: int | None, lasting: int | None
) -> None:
    curve = [
        {"tokens": 100 * number, "accuracy": value, "nll": 1 - value}
        for number, value in enumerate(accuracies, start=1)
    ]
    found = {"first": first, "lasting": lasting}
    assert reached(curve, "accuracy", 0.5) == found == reached(curve, "nll", 0.5)


def test_the_rows_of_a_shorter_prefix_keep_their_order() -> None:
    norms = [3.0, 1.0, 4.0, 2.0]
    kept = {way: choose(norms, 2) for way, choose in WAYS.items()}
    assert kept == {"first": [0, 1], "largest": [0, 2], "smallest": [1, 3]}
