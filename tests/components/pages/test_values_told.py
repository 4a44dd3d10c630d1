"""Numbers as a page writes them, trials in their order, values on an axis."""

import math
import re

import pytest

from components.pages import TrialLine, quantities, trial_colours
from components.pages.label_places import spread
from components.pages.ranking import best_first, ranked, value_of, varied
from components.pages.scale import MISSING, number_scale, scale_of
from tests.components.pages.searches import page_of, six, without_any_evaluation


def test_numbers_are_rounded_to_what_they_mean():
    assert [quantities.score(value) for value in (0.91667, 1.0, 0.0004, -2.5, 12345.0)] == [
        "0.917",
        "1.000",
        "4.00e-04",
        "-2.500",
        "1.23e+04",
    ]
    assert [quantities.score(value) for value in (math.nan, math.inf, -math.inf, None)] == [
        "nan",
        "inf",
        "-inf",
        "-",
    ]
    assert [quantities.tokens(count) for count in (950, 999_999, 1_234_567, 4e9)] == [
        "950",
        "1 M",
        "1.23 M",
        "4 G",
    ]
    assert [quantities.duration(each) for each in (0.42, 45, 59.7, 200, 7500, 3600, 90000)] == [
        "0.4 s",
        "45 s",
        "1 min",
        "3 min 20 s",
        "2 h 5 min",
        "1 h",
        "1 d 1 h",
    ]
    assert [quantities.memory(size) for size in (None, 12, 512 * 2**20, 1_400_000_000)] == [
        "-",
        "12 B",
        "512 MiB",
        "1.3 GiB",
    ]
    assert [
        quantities.setting(value) for value in (4, 5e-3, 1e-2, 0.25, 1e-5, True, None, "x")
    ] == [
        "4",
        "5e-3",
        "0.01",
        "0.25",
        "1e-5",
        "true",
        "null",
        "x",
    ]


def test_paths_that_end_alike_are_told_in_full():
    assert quantities.short_names(["a.rate", "b.rate", "c.d.size"]) == {
        "a.rate": "a.rate",
        "b.rate": "b.rate",
        "c.d.size": "size",
    }


@pytest.mark.parametrize(("mode", "order"), [("max", "badcef"), ("min", "dabcef")])
def test_trials_are_ordered_by_their_best_evaluation_and_no_number_is_last(mode, order):
    values = {"a": 0.5, "b": 0.9, "c": math.nan, "d": 0.2, "e": None, "f": -math.inf}
    trials = [TrialLine(name, {}, "completed", best_value=value) for name, value in values.items()]
    page = page_of(trials, mode=mode)
    assert "".join(trial.name for trial in best_first(page)) == order
    assert [value_of(trial) for trial in best_first(page)][3:] == [None, None, None]
    assert len(ranked(page)) == 3


def test_a_setting_that_all_trials_share_was_not_varied():
    trials = [TrialLine(str(n), {"a": n, "b": 1, "c": [n]}, "completed") for n in (1, 2)]
    assert varied(page_of(trials)) == ("a", "c")
    other = [TrialLine("1", {"a": True}, "completed"), TrialLine("2", {"a": 1}, "completed")]
    assert varied(page_of(other)) == ("a",)


def test_colours_go_from_dark_to_light_and_equal_values_share_one():
    trials = [
        TrialLine(name, {}, "completed", best_value=value)
        for name, value in (("a", 0.5), ("b", 0.9), ("c", 0.5), ("d", 0.1), ("e", None))
    ]
    colours = trial_colours(page_of(trials))
    light = {name: int(colour[1:3], 16) + int(colour[3:5], 16) for name, colour in colours.items()}
    assert light["b"] < light["a"] < light["d"] and colours["a"] == colours["c"]
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours.values())
    assert len(trial_colours(six())) == 6
    assert len(set(trial_colours(without_any_evaluation()).values())) == 1


def test_few_numbers_and_texts_stand_side_by_side_in_order():
    scale = scale_of([16, 4, 8, 4])
    assert [scale.place(value) for value in (4, 8, 16)] == [0, 0.5, 1]
    assert scale.ticks == ((0, "4"), (0.5, "8"), (1, "16"))
    words = scale_of(["mean", "cls", None, True])
    assert [words.place(value) for value in ("mean", "cls", True, None)] == [0, 0.5, 1, MISSING]


def test_many_numbers_far_apart_stand_by_their_logarithm():
    scale = number_scale([1e-4, 1e-1, 1e-2])
    assert scale.place(1e-2) == pytest.approx(2 / 3)
    assert [text for _, text in scale.ticks] == [
        "1e-4",
        "3e-4",
        "1e-3",
        "3e-3",
        "0.01",
        "0.03",
        "0.1",
    ]
    even = number_scale([0.0, 0.5, 0.25])
    assert even.place(0.25) == 0.5
    assert number_scale([3.0]).place(3.0) == 0.5


def test_every_tick_lies_on_its_axis():
    for numbers in ([1.0, 1.7], [3e-5, 9e-5], [-2.0, 7.0], [1e-8, 1e8], [2.0, 45.0]):
        scale = number_scale(numbers)
        assert scale.ticks and len(scale.ticks) <= 8
        assert all(-0.01 <= place <= 1.01 for place, _ in scale.ticks)


def test_labels_are_spread_in_order_without_leaving_the_axis():
    found = spread([0.9, 0.9, 0.91, 0.1], gap=0.06)
    assert found[3] == 0.1
    assert sorted(found)[1:] == pytest.approx([0.9, 0.96, 1.0], abs=0.06)
    gaps = [b - a for a, b in zip(sorted(found), sorted(found)[1:], strict=False)]
    assert min(gaps) >= 0.06 - 1e-9 and max(found) <= 1 and min(found) >= 0
    assert spread([0.5], gap=0.1) == [0.5] and spread([], gap=0.1) == []
