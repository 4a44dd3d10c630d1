"""Tables and figures of a comparison say what the answers say, and nothing more."""

import csv
import io

import numpy as np
import pytest

from components.evaluation import classification_metrics
from components.evaluation.comparison import (
    Comparison,
    MethodResult,
    SeedResult,
    TaskDocuments,
    compare_results,
)
from components.evaluation.comparison_plots import (
    plot_intervals,
    plot_reliability_grid,
    pooled_diagram,
)
from components.evaluation.comparison_tables import (
    as_csv,
    as_html,
    as_latex,
    as_markdown,
    p_text,
    pairs_as_csv,
    tables,
    verdict,
)

LABELS = np.random.default_rng(0).integers(0, 2, 120)
SKILLS = {"good": 3.0, "same": 2.9, "poor": 0.1}


def seed_result(seed: int, skill: float) -> SeedResult:
    logits = np.random.default_rng(seed).normal(size=(len(LABELS), 2))
    logits[np.arange(len(LABELS)), LABELS] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    softer = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
    scores = classification_metrics(probabilities, LABELS)
    scores |= {
        f"calibrated_{name}": value
        for name, value in classification_metrics(softer, LABELS).items()
    }
    costs = {
        "tokens_per_second": 1000.0,
        "seconds": 36.0,
        "core_hours": 0.01,
        "peak_memory_bytes": 2.0**30,
    }
    return SeedResult(seed, scores, costs, probabilities, softer)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    results = [
        MethodResult(
            "task",
            name,
            {"optimizer.learning_rate": 0.01},
            tuple(seed_result(s, skill) for s in (1, 2, 3)),
            100,
            1000,
        )
        for name, skill in SKILLS.items()
    ]
    results.append(
        MethodResult(
            "task",
            "broken",
            {},
            (),
            None,
            None,
            "no point gave an adapter: diverged, the loss is not finite",
        )
    )
    documents = {"task": TaskDocuments(LABELS, np.full(len(LABELS), 10))}
    return compare_results(results, documents, resamples=500)


def test_only_a_difference_that_holds_is_called_one(comparison: Comparison) -> None:
    verdicts = {
        (pair.first, pair.second): verdict(pair)
        for pair in comparison.pairs
        if pair.score == "accuracy"
    }
    assert verdicts == {
        ("good", "same"): "not significant",
        ("good", "poor"): "good better",
        ("same", "poor"): "same better",
    }


def test_lower_is_better_for_errors(comparison: Comparison) -> None:
    pair = comparison.pair("task", "good", "poor", "brier")
    assert pair is not None and pair.bootstrap.difference < 0 and verdict(pair) == "good better"


def test_corrected_p_values_are_never_smaller(comparison: Comparison) -> None:
    assert all(pair.corrected >= pair.bootstrap.p_value for pair in comparison.pairs)
    assert all(pair.mcnemar is not None for pair in comparison.pairs if pair.score == "accuracy")


def test_a_method_without_a_result_keeps_its_row_and_takes_part_in_no_pair(
    comparison: Comparison,
) -> None:
    assert [row.method for row in comparison.rows] == ["good", "same", "poor", "broken"]
    assert not any("broken" in (pair.first, pair.second) for pair in comparison.pairs)
    text = as_markdown(tables(comparison), title="toy")
    assert "diverged, the loss is not finite" in text and "not significant" in text


def test_the_table_holds_the_mean_and_half_interval_of_the_seeds(comparison: Comparison) -> None:
    row = comparison.rows[0]
    interval = row.scores["accuracy"]
    assert interval.high is not None
    shown = f"{100 * interval.mean:.1f} ± {100 * (interval.high - interval.mean):.1f}"
    assert shown in as_markdown(tables(comparison), title="toy")
    assert shown in as_html(tables(comparison), title="toy")
    assert shown.replace("±", r"$\pm$") in as_latex(tables(comparison))


def test_csv_has_one_line_per_method_and_unrounded_means(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    assert [line["method"] for line in lines] == ["good", "same", "poor", "broken"]
    assert float(lines[0]["accuracy"]) == comparison.rows[0].scores["accuracy"].mean
    assert lines[3]["accuracy"] == "" and lines[3]["missing"]
    assert len(list(csv.DictReader(io.StringIO(pairs_as_csv(comparison))))) == len(comparison.pairs)


def test_html_and_latex_escape_what_people_named(comparison: Comparison) -> None:
    assert "<title>a &lt;b&gt;</title>" in as_html([], title="a <b>")
    assert r"5\% \& \_" in as_latex([type(tables(comparison)[0])("5% & _", ("a",), (("b",),), "n")])


def test_the_interval_figure_names_every_method_and_every_pair(comparison: Comparison) -> None:
    figure = plot_intervals(comparison, title="toy")
    left, _, matrix = figure.axes[:3]
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "good",
        "same",
        "poor",
        "broken",
    ]
    texts = [text.get_text() for text in matrix.texts]
    assert len(texts) == 6 and sum("n.s." in text for text in texts) == 2


def test_the_reliability_figure_pools_the_answers_of_all_seeds(comparison: Comparison) -> None:
    assert sum(
        pooled_diagram(comparison.results[0], comparison, calibrated=False).count
    ) == 3 * len(LABELS)
    figure = plot_reliability_grid(comparison, calibrated=True, title="toy")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0].startswith("good\nECE") and titles[3] == "broken"


def test_small_p_values_are_not_printed_as_zero() -> None:
    assert (p_text(0.0001), p_text(0.25)) == ("< 0.001", "0.250")
