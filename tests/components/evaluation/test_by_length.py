"""Buckets of document length on worked examples."""

import math

import numpy as np
import pytest

from components.evaluation import (
    accuracy_interval,
    bootstrap_interval,
    by_document_length,
    ece,
    ece_if_calibrated,
    mean_interval,
    plot_by_length,
)
from components.evaluation.by_length import quantile_edges

# Six documents, two buckets: short ones right twice of three, long ones right once of three.
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5], [0.2, 0.8]])
LABELS = np.array([0, 0, 1, 1, 1, 0])
TOKENS = np.array([10, 30, 20, 500, 400, 600])


def test_two_buckets_of_a_worked_example():
    short, long = by_document_length(PROBABILITIES, LABELS, TOKENS, num_buckets=2)
    assert (short.shortest, short.longest, short.documents) == (10, 30, 3)
    assert (long.shortest, long.longest, long.documents) == (400, 600, 3)
    assert short.accuracy == pytest.approx(2 / 3)
    assert long.accuracy == pytest.approx(1 / 3)
    assert (short.accuracy_low, short.accuracy_high) == pytest.approx(accuracy_interval(2, 3))
    assert short.nll == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3)
    assert long.nll == pytest.approx(-(math.log(0.7) + math.log(0.5) + math.log(0.2)) / 3)
    # Each confidence has a bin of its own (15 bins): gaps .1, .2 and .6; and .3, .5 and .8.
    assert short.ece == pytest.approx((0.1 + 0.2 + 0.6) / 3)
    assert long.ece == pytest.approx((0.3 + 0.5 + 0.8) / 3)
    assert short.mean_confidence == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert short.nll_low <= short.nll <= short.nll_high
    assert 0 <= short.ece_low <= short.ece_high <= 1


def test_every_document_is_in_one_bucket_and_counts_are_equal():
    lengths = np.random.default_rng(0).permutation(np.arange(1, 101))
    probabilities, labels = np.tile([[0.7, 0.3]], (100, 1)), np.zeros(100, dtype=int)
    buckets = by_document_length(probabilities, labels, lengths, num_buckets=4)
    assert [(bucket.shortest, bucket.longest, bucket.documents) for bucket in buckets] == [
        (1, 25, 25),
        (26, 50, 25),
        (51, 75, 25),
        (76, 100, 25),
    ]


def test_equally_long_documents_share_a_bucket():
    """Half of the documents were cut at 512 tokens: they are one bucket, not two that differ by
    chance.
    """
    lengths = np.array([100, 200, 300, 400, 512, 512, 512, 512])
    assert quantile_edges(lengths, 4) == [200, 400]
    buckets = by_document_length(np.tile([[0.7, 0.3]], (8, 1)), np.zeros(8, dtype=int), lengths)
    assert [(bucket.longest, bucket.documents) for bucket in buckets] == [
        (200, 2),
        (400, 2),
        (512, 4),
    ]
    alike = by_document_length(
        np.tile([[0.7, 0.3]], (8, 1)), np.zeros(8, dtype=int), np.full(8, 512)
    )
    assert [bucket.documents for bucket in alike] == [8]


def test_fewer_documents_than_buckets():
    assert [
        bucket.documents for bucket in by_document_length(PROBABILITIES[:2], LABELS[:2], TOKENS[:2])
    ] == [1, 1]


def test_given_edges_are_the_longest_lengths_and_empty_buckets_are_left_out():
    buckets = by_document_length(PROBABILITIES, LABELS, TOKENS, edges=[20, 300, 500])
    assert [(bucket.shortest, bucket.longest) for bucket in buckets] == [
        (10, 20),
        (30, 30),
        (400, 500),
        (600, 600),
    ]
    assert [
        bucket.documents
        for bucket in by_document_length(PROBABILITIES, LABELS, TOKENS, edges=[100, 300])
    ] == [3, 3]


def test_a_bucket_says_how_many_of_its_documents_were_cut_and_where():
    kept = np.minimum(TOKENS, 450)
    short, long = by_document_length(PROBABILITIES, LABELS, TOKENS, kept=kept, num_buckets=2)
    assert (short.cut, short.cut_at) == (0, None)
    assert (long.cut, long.cut_at) == (2, 450)
    assert (long.shortest, long.longest) == (400, 600)
    uncounted = by_document_length(PROBABILITIES, LABELS, TOKENS, num_buckets=2)
    assert [bucket.cut for bucket in uncounted] == [None, None]
    with pytest.raises(ValueError, match="as many lengths"):
        by_document_length(PROBABILITIES, LABELS, TOKENS, kept=kept[:3])


def test_the_plot_is_grey_from_the_cut_on_and_says_where_it_is():
    kept = np.minimum(TOKENS, 450)
    found = by_document_length(PROBABILITIES, LABELS, TOKENS, kept=kept, num_buckets=2)
    figure = plot_by_length(found, title="two cut")
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["10-30\n3 docs", "400-600\n3 docs\n2 cut"]
    (ground,) = figure.axes[0].patches  # two of three documents of the second bucket
    assert (ground.get_x(), ground.get_x() + ground.get_width()) == pytest.approx(
        (1.5 - 2 / 3, 1.5)
    )
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[-1] == "cut at 450 tokens: the model saw their beginning alone"


def test_the_plot_of_lengths_after_the_cut_says_that_they_are():
    """As records of earlier versions have them."""
    figure = plot_by_length(by_document_length(PROBABILITIES, LABELS, TOKENS), title="old")
    assert figure.axes[0].get_xlabel() == "tokens of the document after the cut"
    assert not figure.axes[0].patches


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="as many lengths"):
        by_document_length(PROBABILITIES, LABELS, TOKENS[:3])


def test_ece_if_calibrated_is_what_few_documents_make_of_honest_answers():
    """One document of confidence c: its ECE is 1 - c with probability c, else c, 2 c (1 - c) on
    average; of many documents it tends to 0.
    """
    assert ece_if_calibrated(np.array([0.7]), simulations=4000) == pytest.approx(
        2 * 0.7 * 0.3, abs=0.02
    )
    assert ece_if_calibrated(np.full(20_000, 0.7), simulations=5) < 0.01


def test_bootstrap_interval_of_a_mean_is_close_to_the_normal_one_and_deterministic():
    values = np.random.default_rng(1).normal(size=400)
    half = 1.96 * values.std() / 20
    low, high = mean_interval(values, num_resamples=4000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)
    assert mean_interval(values) == mean_interval(values)
    assert bootstrap_interval(lambda rows: 3.0, 5) == (3.0, 3.0)
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(lambda rows: 0.0, 0)


def test_bootstrap_interval_of_an_ece_holds_the_estimate_and_is_not_negative():
    """Honest answers of few documents: nearly every resample has a larger ECE than the sample."""
    confidences, correct = np.full(40, 0.5), np.arange(40) % 2 == 0
    low, high = bootstrap_interval(
        lambda rows: ece(confidences[rows], correct[rows]), 40, least=0.0
    )
    assert ece(confidences, correct) == 0.0 == low < high


def test_the_plot_has_one_panel_per_measure_and_names_the_buckets():
    figure = plot_by_length(
        by_document_length(PROBABILITIES, LABELS, TOKENS, num_buckets=2), title="six documents"
    )
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "accuracy",
        "ECE (15 bins)",
        "NLL (nats)",
    ]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [
        "10-30\n3 docs",
        "400-600\n3 docs",
    ]


def test_answers_that_are_all_right_can_be_drawn() -> None:
    """An interval that rounding put below the share itself would be a bar of negative length."""
    for total in range(1, 300):
        assert accuracy_interval(total, total)[1] == 1.0
        assert accuracy_interval(0, total)[0] == 0.0
    probabilities = np.tile([0.99, 0.01], (62, 1))
    found = by_document_length(probabilities, np.zeros(62, np.int64), np.arange(62) + 100)
    assert plot_by_length(found, title="all right").axes
