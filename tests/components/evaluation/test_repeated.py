"""Answers of several seeds: worked examples and laws of paired differences."""

import numpy as np
import pytest

from components.evaluation import ece
from components.evaluation.metrics import accuracy_interval
from components.evaluation.repeated import RepeatedAnswers, paired_difference, trend_per_doubling


def answers(right_RN, *, confidence=0.8, lengths=None):
    """Two classes, all labels 0; right or wrong with this confidence."""
    right_RN = np.asarray(right_RN, dtype=bool)
    first_RN = np.where(right_RN, confidence, 1 - confidence)
    lengths_N = np.full(right_RN.shape[1], 512) if lengths is None else np.asarray(lengths)
    return RepeatedAnswers(
        np.stack([first_RN, 1 - first_RN], axis=2),
        np.zeros(right_RN.shape[1], dtype=int),
        lengths_N,
    )


def test_measures_of_two_seeds_and_four_documents():
    both = answers([[1, 1, 1, 0], [1, 0, 1, 0]])
    assert both.measure("accuracy") == pytest.approx(5 / 8)
    assert both.measure("nll") == pytest.approx(-(5 * np.log(0.8) + 3 * np.log(0.2)) / 8)
    assert both.measure("ece") == pytest.approx(0.8 - 5 / 8)
    assert both.of(np.array([0, 2])).measure("accuracy") == 1.0


def test_more_seeds_with_the_same_answers_do_not_narrow_the_interval():
    one, five = answers([[1, 1, 1, 0]]), answers([[1, 1, 1, 0]] * 5)
    for name in ("accuracy", "nll", "ece"):
        few, many = one.estimate(name), five.estimate(name)
        assert (many.value, many.low, many.high) == pytest.approx((few.value, few.low, few.high))
    assert (one.estimate("accuracy").low, one.estimate("accuracy").high) == accuracy_interval(3, 4)
    assert five.ece_if_calibrated() == pytest.approx(one.ece_if_calibrated())


def test_a_paired_difference_is_narrower_than_an_unpaired_one_where_methods_agree():
    right = np.random.default_rng(0).random(200) < 0.6
    better = right.copy()
    better[np.flatnonzero(~right)[:20]] = True
    found = paired_difference(answers([better]), answers([right]), "accuracy")
    assert found.value == pytest.approx(0.1)
    assert found.excludes_zero
    assert found.high - found.low < 0.1  # two independent samples of 200 would give about 0.19
    assert paired_difference(answers([right]), answers([right]), "ece").value == 0.0


def test_a_difference_in_ece_is_that_of_the_pooled_answers():
    first, second = answers([[1, 1, 0, 1]], confidence=0.9), answers([[1, 0, 0, 1]], confidence=0.6)
    expected = ece(np.full(4, 0.9), np.array([1, 1, 0, 1], dtype=bool)) - ece(
        np.full(4, 0.6), np.array([1, 0, 0, 1], dtype=bool)
    )
    assert paired_difference(first, second, "ece").value == pytest.approx(expected)


def test_trend_is_the_slope_over_doublings():
    """The first method is right on all, the second on all of 512 tokens, half of 1,024 and none of
    2,048: half a point more per doubling.
    """
    lengths = np.repeat([512, 1024, 2048], 20)
    second = np.concatenate([np.ones(20), np.tile([0, 1], 10), np.zeros(20)])
    found = trend_per_doubling(
        answers([np.ones(60)], lengths=lengths), answers([second], lengths=lengths)
    )
    assert found.value == pytest.approx(0.5)
    assert 0.4 < found.low < 0.5 < found.high < 0.6
    alike = answers([np.ones(60)])
    assert trend_per_doubling(alike, answers([second])).value == 0.0


def test_answers_to_other_documents_are_refused():
    with pytest.raises(ValueError, match="same documents"):
        paired_difference(answers([[1, 0]], lengths=[512, 1024]), answers([[1, 0]]), "accuracy")
