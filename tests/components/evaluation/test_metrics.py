"""Metrics and calibration errors against worked examples and naive loops."""

import math

import numpy as np
import pytest

from components.evaluation import (
    accuracy_interval,
    adaptive_ece,
    brier,
    classification_metrics,
    ece,
    ece_upper_edge_10,
    macro_f1,
    mce,
    nll,
    plot_reliability,
    reliability_diagram,
)


def random_answers(seed, *, documents=200, classes=4):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(documents, classes)) * 2
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities, generator.integers(classes, size=documents)


def top(probabilities, labels):
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def naive_gaps(confidences, correct, num_bins):
    """(documents, |accuracy - mean confidence|) of every occupied bin (lower, upper]."""
    gaps = []
    for index in range(num_bins):
        lower, upper = index / num_bins, (index + 1) / num_bins
        members = [
            i
            for i, value in enumerate(confidences)
            if (lower < value <= upper) or (index == 0 and value == 0)
        ]
        if members:
            accuracy = sum(bool(correct[i]) for i in members) / len(members)
            confidence = sum(float(confidences[i]) for i in members) / len(members)
            gaps.append((len(members), abs(accuracy - confidence)))
    return gaps


# The example on the released metric's card (method.md, section 4): two right, the last one wrong.
CARD_PROBABILITIES = np.array([[0.6, 0.2, 0.2], [0.0, 0.95, 0.05], [0.7, 0.1, 0.2]])
CARD_LABELS = np.array([0, 1, 2])


def test_ece_upper_edge_10_gives_the_worked_example():
    assert ece_upper_edge_10(*top(CARD_PROBABILITIES, CARD_LABELS)) == pytest.approx(
        0.4 / 3, abs=1e-12
    )


def test_ece_of_the_same_example_is_another_number():
    assert ece(*top(CARD_PROBABILITIES, CARD_LABELS), num_bins=10) == pytest.approx(
        0.35 / 3, abs=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_ece_and_mce_equal_naive_loops(seed, num_bins):
    confidence, correct = top(*random_answers(seed))
    gaps = naive_gaps(confidence, correct, num_bins)
    assert ece(confidence, correct, num_bins=num_bins) == pytest.approx(
        sum(count * gap for count, gap in gaps) / len(confidence), abs=1e-12
    )
    assert mce(confidence, correct, num_bins=num_bins) == pytest.approx(
        max(gap for _, gap in gaps), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_ece_upper_edge_10_equals_a_naive_loop(seed):
    confidence, correct = top(*random_answers(seed))
    total = 0.0
    for index in range(10):
        members = [
            i
            for i, value in enumerate(confidence)
            if index / 10 <= value < (index + 1) / 10 or (index == 9 and value == 1.0)
        ]
        if members:
            total += (
                len(members)
                / len(confidence)
                * abs(sum(bool(correct[i]) for i in members) / len(members) - (index + 1) / 10)
            )
    assert ece_upper_edge_10(confidence, correct) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("documents", [3, 15, 200])
def test_adaptive_ece_equals_a_naive_loop_over_equal_runs(documents):
    confidence, correct = top(*random_answers(1, documents=documents))
    ranked = sorted(range(documents), key=lambda i: (confidence[i], i))
    total, start = 0.0, 0
    for index in range(15):
        size = documents // 15 + (index < documents % 15)
        run, start = ranked[start : start + size], start + size
        if run:
            gap = abs(sum(bool(correct[i]) for i in run) - sum(float(confidence[i]) for i in run))
            total += gap / documents
    assert adaptive_ece(confidence, correct) == pytest.approx(total, abs=1e-12)


def test_perfectly_calibrated_answers_have_no_calibration_error():
    confidence, correct = np.full(10, 0.7), np.array([True] * 7 + [False] * 3)
    for error in (ece, mce):
        assert error(confidence, correct) == pytest.approx(0.0, abs=1e-12)
    assert adaptive_ece(confidence, correct, num_bins=1) == pytest.approx(0.0, abs=1e-12)


def test_probability_one_and_uniform_probability_have_a_bin():
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5]])
    metrics = classification_metrics(probabilities, np.array([0, 0]))
    assert metrics["ece"] == pytest.approx(0.25)
    assert metrics["ece_upper_edge_10"] == pytest.approx(0.2)


def test_macro_f1_equals_a_naive_loop_over_classes_that_occur():
    probabilities, labels = random_answers(3, documents=40)
    predicted = probabilities.argmax(axis=1)
    predicted[predicted == 3] = 0
    labels[labels == 3] = 1
    scores = []
    for label in (0, 1, 2):
        hits = sum((predicted == label) & (labels == label))
        precision = hits / max(1, sum(predicted == label))
        recall = hits / max(1, sum(labels == label))
        scores.append(0.0 if hits == 0 else 2 * precision * recall / (precision + recall))
    assert macro_f1(predicted, labels) == pytest.approx(sum(scores) / 3, abs=1e-12)


def test_nll_and_brier_equal_naive_loops():
    probabilities, labels = random_answers(4, documents=30)
    rows = list(zip(probabilities.tolist(), labels.tolist(), strict=True))
    assert nll(probabilities, labels) == pytest.approx(
        sum(-math.log(row[label]) for row, label in rows) / 30, abs=1e-9
    )
    squares = [
        sum((value - (index == label)) ** 2 for index, value in enumerate(row))
        for row, label in rows
    ]
    assert brier(probabilities, labels) == pytest.approx(sum(squares) / 30, abs=1e-12)


def test_nll_of_an_underflowed_probability_is_finite():
    assert 80 < nll(np.array([[1.0, 0.0]]), np.array([1])) < 90


def test_wilson_interval_gives_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263 and 0/20 at 95%.
    assert accuracy_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert accuracy_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_metrics_name_the_majority_and_the_interval():
    metrics = classification_metrics(CARD_PROBABILITIES, np.array([0, 0, 2]))
    assert metrics["majority_accuracy"] == pytest.approx(2 / 3)
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    assert metrics["num_documents"] == 3


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.array([[0.5, 0.5]]), np.array([2])),
        (np.array([[0.5, 0.5]]), np.array([0, 1])),
        (np.array([[2.0, -1.0]]), np.array([0])),
        (np.array([[np.nan, 1.0]]), np.array([0])),
        (np.zeros((0, 2)), np.zeros(0, dtype=int)),
    ],
)
def test_what_are_no_probabilities_or_labels_is_refused(probabilities, labels):
    with pytest.raises(ValueError, match=r"must be|need"):
        classification_metrics(probabilities, labels)


def test_reliability_diagram_adds_up_to_ece_and_draws():
    probabilities, labels = random_answers(5)
    diagram = reliability_diagram(probabilities, labels)
    gaps = [
        count * abs(a - c)
        for count, a, c in zip(diagram.count, diagram.accuracy, diagram.confidence, strict=True)
        if count
    ]
    assert sum(gaps) / sum(diagram.count) == pytest.approx(diagram.ece, abs=1e-12)
    assert sum(diagram.count) == len(labels)
    assert plot_reliability(diagram, title="test").get_suptitle() == "test"


def test_adaptive_ece_does_not_depend_on_the_order_of_equal_confidences():
    confidence, correct = np.full(30, 0.8), np.array([True] * 24 + [False] * 6)
    assert adaptive_ece(confidence, correct) == pytest.approx(0.0, abs=1e-12)
    mixed = np.random.default_rng(0).permutation(30)
    assert adaptive_ece(confidence, correct[mixed]) == pytest.approx(
        adaptive_ece(confidence, correct), abs=1e-12
    )
