"""Intervals, paired tests and corrections against worked examples and scipy."""

import numpy as np
import pytest
from scipy import stats

from components.evaluation import classification_metrics
from components.evaluation.significance import (
    STATISTICS,
    holm,
    mcnemar,
    paired_bootstrap,
    resample,
    score_interval,
    seed_averaged_correct,
    seed_interval,
)


def answers(count: int, classes: int, *, seed: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C) whose logit of the label is raised by `skill`, and labels (N,)."""
    draw = np.random.default_rng(seed)
    labels = np.random.default_rng(7).integers(0, classes, count)
    logits = draw.normal(size=(count, classes))
    logits[np.arange(count), labels] += skill
    exponent = np.exp(logits)
    return exponent / exponent.sum(axis=1, keepdims=True), labels


def test_seed_interval_of_a_worked_example() -> None:
    # mean 0.8, s = 0.02, t(0.975, 2) = 4.302653, half = 4.302653 * 0.02 / sqrt(3)
    found = seed_interval([0.78, 0.80, 0.82])
    assert found.mean == pytest.approx(0.8)
    assert found.low is not None and found.high is not None
    assert found.high - found.mean == pytest.approx(4.302653 * 0.02 / 3**0.5, abs=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_seed_interval_equals_scipys() -> None:
    values = [0.61, 0.65, 0.58, 0.70, 0.66]
    low, high = stats.t.interval(0.9, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    found = seed_interval(values, level=0.9)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_one_seed_has_no_interval() -> None:
    assert (seed_interval([0.5]).low, seed_interval([0.5]).high) == (None, None)
    with pytest.raises(ValueError, match="at least one"):
        seed_interval([])


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_a_statistic_on_the_sample_itself_is_the_metric(name: str) -> None:
    probabilities, labels = answers(83, 4, seed=1, skill=1.0)
    assert STATISTICS[name](probabilities, labels, np.ones((1, 83)))[0] == pytest.approx(
        classification_metrics(probabilities, labels)[name]
    )


@pytest.mark.parametrize("name", sorted(STATISTICS))
def test_a_statistic_on_a_resample_is_the_metric_of_the_repeated_documents(name: str) -> None:
    probabilities, labels = answers(60, 3, seed=2, skill=0.5)
    counts = resample(60, resamples=3, seed=5)
    for row, found in zip(counts, STATISTICS[name](probabilities, labels, counts), strict=True):
        chosen = np.repeat(np.arange(60), row.astype(int))
        assert found == pytest.approx(
            classification_metrics(probabilities[chosen], labels[chosen])[name]
        )


def test_resamples_have_the_size_of_the_sample_and_repeat_with_their_seed() -> None:
    counts = resample(40, resamples=20, seed=3)
    assert (counts.sum(axis=1) == 40).all()
    assert (counts == resample(40, resamples=20, seed=3)).all()
    assert (counts != resample(40, resamples=20, seed=4)).any()


def test_paired_bootstrap_agrees_with_the_normal_theory_of_paired_differences() -> None:
    first, labels = answers(400, 2, seed=1, skill=1.4)
    second, _ = answers(400, 2, seed=2, skill=1.0)
    found = paired_bootstrap(STATISTICS["accuracy"], [first], [second], labels, resamples=20_000)
    difference = (first.argmax(axis=1) == labels).astype(float) - (second.argmax(axis=1) == labels)
    error = difference.std() / 400**0.5
    assert found.difference == pytest.approx(difference.mean())
    # Percentiles of 20,000 resamples stray by about 2% of the standard error; accuracy moves in
    # steps of 1/400.
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, abs=0.005)
    assert found.p_value == pytest.approx(
        2 * stats.norm.sf(abs(difference.mean()) / error), abs=0.02
    )


def test_a_method_does_not_differ_from_itself() -> None:
    probabilities, labels = answers(50, 3, seed=1, skill=1.0)
    found = paired_bootstrap(
        STATISTICS["ece"], [probabilities], [probabilities], labels, resamples=500
    )
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_swapping_the_methods_changes_the_sign_alone() -> None:
    first, labels = answers(80, 2, seed=1, skill=1.5)
    second, _ = answers(80, 2, seed=2, skill=0.5)
    forth = paired_bootstrap(STATISTICS["brier"], [first], [second], labels, resamples=1000)
    back = paired_bootstrap(STATISTICS["brier"], [second], [first], labels, resamples=1000)
    assert (back.difference, back.low, back.high) == (
        pytest.approx(-forth.difference),
        pytest.approx(-forth.high),
        pytest.approx(-forth.low),
    )
    assert back.p_value == forth.p_value


def test_repeating_a_seed_adds_no_certainty() -> None:
    first, labels = answers(60, 2, seed=1, skill=1.5)
    second, _ = answers(60, 2, seed=2, skill=1.0)
    once = paired_bootstrap(STATISTICS["accuracy"], [first], [second], labels, resamples=2000)
    thrice = paired_bootstrap(
        STATISTICS["accuracy"], [first] * 3, [second] * 3, labels, resamples=2000
    )
    assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert thrice.p_value == pytest.approx(once.p_value, abs=0.01)


def test_paired_bootstrap_refuses_other_documents() -> None:
    first, labels = answers(20, 2, seed=1, skill=1.0)
    with pytest.raises(ValueError, match="19 answers for 20 labels"):
        paired_bootstrap(STATISTICS["accuracy"], [first], [first[:19]], labels)


def test_bootstrap_p_values_of_equal_methods_are_spread_evenly() -> None:
    """Under the hypothesis about one in ten lies below 0.1: the test neither shouts nor sleeps."""
    small = 0
    for seed in range(100):
        first, labels = answers(100, 2, seed=2 * seed, skill=1.0)
        second, _ = answers(100, 2, seed=2 * seed + 1, skill=1.0)
        small += (
            paired_bootstrap(
                STATISTICS["accuracy"], [first], [second], labels, resamples=400
            ).p_value
            < 0.1
        )
    assert 3 <= small <= 19  # 99.8% of the binomial(100, 0.1)


def test_score_interval_of_accuracy_is_near_the_binomial_one() -> None:
    probabilities, labels = answers(300, 2, seed=1, skill=1.5)
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    low, high = score_interval(STATISTICS["accuracy"], [probabilities], labels)
    half = 1.96 * (accuracy * (1 - accuracy) / 300) ** 0.5
    assert (low, high) == (
        pytest.approx(accuracy - half, abs=0.007),
        pytest.approx(accuracy + half, abs=0.007),
    )


def test_mcnemar_of_a_worked_example() -> None:
    # 1 against 8 discordant: 2 * P(X <= 1), X binomial(9, 1/2) = 2 * (1 + 9) / 512
    first = np.array([True] * 1 + [False] * 8 + [True] * 20 + [False] * 5)
    second = np.array([False] * 1 + [True] * 8 + [True] * 20 + [False] * 5)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (1, 8)
    assert found.p_value == pytest.approx(20 / 512)


def test_mcnemar_without_discordant_documents_says_nothing() -> None:
    same = np.array([True, False, True])
    assert mcnemar(same, same).p_value == 1.0
    with pytest.raises(ValueError, match="same documents"):
        mcnemar(same, same[:2])


def test_seeds_are_averaged_into_one_answer_per_document() -> None:
    labels = np.array([0, 1])
    first, second = np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0.4, 0.6], [0.1, 0.9]])
    assert seed_averaged_correct([first, second], labels).tolist() == [True, True]


def test_holm_of_a_worked_example() -> None:
    # sorted .01 .02 .03 .04: 4 * .01, 3 * .02, then 2 * .03 and 1 * .04 are raised to the one
    # before
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx((0.06, 0.04, 0.06, 0.06))
    assert holm([0.6, 0.7]) == (1.0, 1.0)
    assert holm([]) == ()


def test_an_interval_does_not_leave_what_a_score_can_be() -> None:
    probabilities, labels = answers(30, 3, seed=0, skill=2.2)
    low, high = score_interval(STATISTICS["macro_f1"], [probabilities], labels, resamples=500)
    assert low < high <= 1.0


def test_documents_that_all_differ_alike_prove_nothing() -> None:
    """Resampling them shows no spread: one document would be as sure as a thousand."""
    right, wrong = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    for count in (1, 3):
        labels = np.zeros(count, dtype=int)
        found = paired_bootstrap(
            STATISTICS["accuracy"],
            [right.repeat(count, 0)],
            [wrong.repeat(count, 0)],
            labels,
            resamples=200,
        )
        assert (found.difference, found.p_value) == (1.0, 1.0) and found.low <= 0.0
