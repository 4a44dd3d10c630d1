"""Pictures of constructed searches: each says its message, and none breaks on what a search may
have left.
"""

import io
import math
import warnings
from collections.abc import Iterator

import pytest

from components.pages import (
    Score,
    against_champion,
    cost_and_quality,
    learning_curves,
    searched_settings,
)
from components.pages.cost import pareto_front
from components.pages.label_places import label_points
from components.pages.ranking import ranked, value_of
from tests.components.pages import searches

PICTURES = {
    "curves": learning_curves,
    "settings": searched_settings,
    "cost": cost_and_quality,
    "champion": against_champion,
}


def texts_of(figure) -> list[str]:
    """What can be read outside of ticks."""
    axes = figure.axes[0]
    found = [figure.get_suptitle(), axes.get_title(loc="left"), *(t.get_text() for t in axes.texts)]
    return found + [text.get_text() for each in figure.legends for text in each.get_texts()]


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("search", searches.ALL)
def test_every_picture_of_every_search_can_be_drawn(search, picture):
    page = searches.ALL[search]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = PICTURES[picture](page)
        if figure is None:
            assert picture == "champion"
            return
        figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("picture", ["curves", "cost"])
def test_the_title_is_the_best_trial_and_its_value(picture):
    title = PICTURES[picture](searches.six()).get_suptitle()
    assert title.startswith("Best: 003 P=8 lr=1e-2, 0.9")
    assert PICTURES[picture](searches.without_any_evaluation()).get_suptitle() == (
        "No trial of 2 has a result"
    )


def test_the_title_of_the_settings_says_where_the_best_lies():
    title = searched_settings(searches.six()).get_suptitle()
    assert title.startswith("Best at prefix_length=8, learning_rate=0.01: 0.9")


def test_the_best_of_a_loss_is_the_smallest():
    page = searches.many(24, settings=3, mode="min")
    least = min(value for trial in page.trials if (value := value_of(trial)) is not None)
    assert value_of(ranked(page)[0]) == least
    assert f"{least:.3f}" in learning_curves(page).get_suptitle()


def test_outcomes_are_told_by_shape_with_their_counts():
    legend = learning_curves(searches.six()).legends[0]
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["completed (2)", "stopped early (3)", "diverged (1)", "the best"]
    markers = [handle.get_marker() for handle in legend.legend_handles]
    assert markers[:3] == ["o", "s", "X"]


def test_two_settings_on_a_grid_are_a_heat_map_with_a_number_in_every_tried_cell():
    figure = searched_settings(searches.grid())
    assert len(figure.axes[0].patches) == 24
    values = {f"{value_of(trial):.3f}" for trial in ranked(searches.grid())}
    assert values <= set(texts_of(figure))
    assert "infeasible" in texts_of(figure)


@pytest.mark.parametrize(
    ("search", "axes_named"),
    [
        ("rates", ("learning_rate", "validation/accuracy")),
        ("texts", ("pooling", "validation/accuracy")),
        ("random24", ("learning_rate", "prefix_length")),
    ],
)
def test_other_searches_of_one_or_two_settings_are_marks(search, axes_named):
    axes = searched_settings(searches.ALL[search]()).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == axes_named


def test_more_settings_are_parallel_axes_with_the_metric_last():
    texts = texts_of(searched_settings(searches.many(24, settings=5)))
    names = ["prefix_length", "learning_rate", "pooling", "dropout", "weight_decay"]
    assert [text for text in texts if text in names] == names
    assert "validation/accuracy" in texts


def test_the_front_has_no_trial_that_a_cheaper_one_beats():
    for page in (searches.many(200), searches.many(200, mode="min")):
        front = pareto_front(page)
        assert value_of(front[-1]) == value_of(ranked(page)[0])
        sign = 1 if page.mode == "max" else -1
        for trial in ranked(page):
            beaten_by_none = not any(
                other.tokens <= trial.tokens
                and sign * value_of(other) >= sign * value_of(trial)
                and (other.tokens, value_of(other)) != (trial.tokens, value_of(trial))
                for other in ranked(page)
            )
            alike = [(each.tokens, value_of(each)) for each in front]
            assert beaten_by_none == ((trial.tokens, value_of(trial)) in alike)


def test_a_loss_that_ran_away_does_not_flatten_the_others():
    page = searches.many(24, settings=3, mode="min")
    figure = learning_curves(page)
    assert figure.axes[0].get_ylim()[1] < 100
    assert "lie beyond the axis" in figure.legends[0].get_title().get_text()


def test_trials_without_a_value_are_named_below():
    note = learning_curves(searches.grid()).legends[0].get_title().get_text()
    assert note.startswith("without a value: 005 P=2 lr=5e-2 (infeasible), 023 P=16 lr=5e-2")


def test_names_do_not_lie_on_each_other():
    for search in ("two", "six", "random24", "random200"):
        figure = learning_curves(searches.ALL[search]())
        figure.draw_without_rendering()
        assert not list(overlaps(figure)), search
        figure = cost_and_quality(searches.ALL[search]())
        figure.draw_without_rendering()
        assert not list(overlaps(figure)), search


def test_a_label_that_has_no_room_beside_the_others_is_left_out():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    labels = [(0.5, 0.5, f"label number {number}") for number in range(40)]
    written = label_points(figure, axes, labels, points=[(0.5, 0.5)])
    assert 2 <= written == len(axes.texts) < 40
    assert not list(overlaps(figure))
    assert axes.texts[0].get_text() == "label number 0"


def overlaps(figure) -> Iterator[tuple[str, str]]:
    texts = figure.axes[0].texts
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for place, (name, box) in enumerate(boxes):
        for other_name, other in boxes[place + 1 :]:
            if box.overlaps(other):
                yield name, other_name


def test_a_champion_is_compared_only_where_there_is_somebody():
    assert against_champion(searches.one()) is None
    alone = searches.page_of([], scores=(Score("version 1", 0.5, 0.4, 0.6, "challenger"),))
    assert against_champion(alone) is None
    figure = against_champion(searches.six())
    assert figure.get_suptitle() == "version 4: 0.917, version 3: 0.854 (gate: promote)"
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert ticks[:2] == ["version 4\nnew", "version 3\nchampion before"]


def test_a_score_that_is_no_number_is_left_out():
    scores = (Score("a", 0.5, kind="challenger"), Score("b", math.nan), Score("c", 0.4))
    figure = against_champion(searches.page_of([], scores=scores))
    assert len(figure.axes[0].get_yticklabels()) == 2


def test_a_name_between_dollars_is_no_formula():
    figure = learning_curves(searches.hostile())
    assert figure.axes[0].texts[0].get_text().startswith("0<script>")
