"""The reliability diagram says what chance makes of few documents, before and after calibration."""

import numpy as np
import pytest

from components.evaluation import (
    ReliabilityDiagram,
    accuracy_interval,
    before_and_after,
    ece_if_calibrated,
    plot_reliability,
    reliability_diagram,
    softmax,
)


def answers(count: int, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (count, 4) and labels that are drawn from them at temperature 1."""
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(count, 4)) * 2
    labels = np.array([draw.choice(4, p=row) for row in softmax(logits)])
    return softmax(logits, temperature=temperature), labels


def test_a_diagram_holds_that_of_temperature_1_and_what_honest_answers_would_show():
    before, labels = answers(60, temperature=0.3)
    after, _ = answers(60)
    diagram = before_and_after(before, after, labels)
    plain = reliability_diagram(after, labels)
    assert (diagram.count, diagram.accuracy, diagram.ece) == (
        plain.count,
        plain.accuracy,
        plain.ece,
    )
    assert diagram.ece_if_calibrated == ece_if_calibrated(after.max(axis=1))
    assert diagram.uncalibrated is not None
    assert diagram.uncalibrated.ece == reliability_diagram(before, labels).ece
    assert diagram.uncalibrated.ece_if_calibrated == ece_if_calibrated(before.max(axis=1))
    assert diagram.uncalibrated.uncalibrated is None


def test_the_interval_of_a_bar_is_wilson_s_for_its_documents():
    diagram = ReliabilityDiagram((0, 3, 40), (None, 1 / 3, 0.9), (None, 0.5, 0.8), 0.1)
    assert diagram.intervals == (None, accuracy_interval(1, 3), accuracy_interval(36, 40))


def test_the_figure_shows_before_and_after_with_both_honest_eces():
    before, labels = answers(60, temperature=0.3)
    diagram = before_and_after(before, answers(60)[0], labels)
    figure = plot_reliability(diagram, title="toy")
    left, right = figure.axes[:2]
    assert left.get_title() == (
        f"before calibration (temperature 1)\nECE {diagram.uncalibrated.ece:.3f}; "
        "perfectly calibrated would show "
        f"{diagram.uncalibrated.ece_if_calibrated:.3f}"
    )
    assert right.get_title().startswith(f"after calibration\nECE {diagram.ece:.3f}")
    # One interval per bar, in either panel.
    for axes, each in ((left, diagram.uncalibrated), (right, diagram)):
        assert len(axes.containers) == 2 * sum(count > 0 for count in each.count)


def test_bars_of_few_documents_are_hatched_and_the_legend_says_why():
    diagram = ReliabilityDiagram((3, 12), (1 / 3, 0.75), (0.3, 0.8), 0.1)
    figure = plot_reliability(diagram, title="toy")
    assert [bar.get_hatch() for bar in figure.axes[0].patches] == ["////", None]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[-1] == "fewer than 10 documents: says little"
    many = plot_reliability(ReliabilityDiagram((12,), (0.75,), (0.8,), 0.1), title="toy")
    assert len(many.legends[0].get_texts()) == 2


def test_marks_at_0_and_1_are_not_cut_by_the_frame():
    diagram = ReliabilityDiagram((1, 12), (0.0, 1.0), (0.0, 1.0), 0.0)
    axes = plot_reliability(diagram, title="toy").axes[0]
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert low < 0 and high > 1


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_a_diagram_of_an_earlier_version_is_drawn(accuracy: float):
    diagram = ReliabilityDiagram((0, 5), (None, accuracy), (None, 0.9), 0.1)
    figure = plot_reliability(diagram, title="old")
    assert len(figure.axes) == 2
    assert figure.axes[0].get_title() == "ECE 0.100"
