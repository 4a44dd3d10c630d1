"""Constructed changes: those that matter are caught, the others let through."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from components.data.drift.checks import Finding, compare, worst
from components.data.drift.settings import DriftConfig
from components.tasks.labelled_text import LabelledText

LABELS = ("politics", "space", "sports")
WORDS = [f"word{number}" for number in range(300)]
FOREIGN = [f"wort{number}" for number in range(300)]
LOUD = [word.upper() for word in WORDS]


def documents(
    count: int,
    *,
    seed: int,
    shares: tuple[float, ...] = (0.4, 0.3, 0.3),
    words: list[str] = WORDS,
    length: int = 60,
    labels: tuple[str, ...] = LABELS,
) -> list[LabelledText]:
    draw = np.random.default_rng(seed)
    found = []
    for row in range(count):
        label = int(draw.choice(len(labels), p=shares))
        count_words = int(draw.integers(length // 2, length * 3 // 2))
        own = words[label * 20 : label * 20 + 20]
        text = " ".join(
            own[int(draw.integers(20))] if draw.random() < 0.2 else words[int(draw.integers(300))]
            for _ in range(count_words)
        )
        found.append(LabelledText(f"{seed}-{row}", text, labels[label], f"{seed}.jsonl", row + 1))
    return found


OLD = documents(300, seed=1)
TEST = OLD[:40]


def findings(new: list[LabelledText], **rules: Any) -> dict[str, Finding]:
    """The worst finding of each check."""
    found: dict[str, Finding] = {}
    order = ("fine", "warn", "stop")
    for each in compare(OLD, new, test_set=TEST, rules=DriftConfig(**rules)):
        before = found.get(each.check)
        if before is None or order.index(each.verdict) > order.index(before.verdict):
            found[each.check] = each
    return found


CHANGES: dict[str, tuple[list[LabelledText], str, str]] = {
    "labels shift": (
        [*OLD, *documents(200, seed=2, shares=(0.05, 0.05, 0.9))],
        "labels",
        "warn",
    ),
    "lengths shift": ([*OLD, *documents(200, seed=3, length=120)], "lengths", "warn"),
    "a new label": (
        [*OLD, *documents(30, seed=4, labels=("politics", "space", "weather"))],
        "new_labels",
        "stop",
    ),
    "a label is gone": (
        [each for each in OLD if each.label != "sports"],
        "lost_labels",
        "stop",
    ),
    "duplicates flood": (
        [*OLD, *([replace(documents(1, seed=5)[0], id=f"copy-{n}") for n in range(60)])],
        "duplicates",
        "warn",
    ),
    "test documents leak": (
        [
            *OLD,
            *(replace(each, id=f"leak-{each.id}", text=each.text + " more") for each in TEST[:3]),
        ],
        "leaks",
        "stop",
    ),
    "another language": ([*OLD, *documents(100, seed=6, words=FOREIGN)], "text", "warn"),
    # As a source appends them: one fold of the classifier must not hold all of a kind.
    "three signatures, one after the other": (
        [
            *OLD,
            *(
                replace(each, text=f"{each.text} {name}")
                for number, name in enumerate(("Mail", "Telegram", "Usenet"))
                for each in documents(40, seed=20 + number)
            ),
        ],
        "text",
        "warn",
    ),
    "another case": ([*OLD, *documents(100, seed=13, words=LOUD)], "text", "warn"),
    "marks where there were none": (
        [*OLD, *(replace(each, text=each.text + " .") for each in documents(100, seed=14))],
        "text",
        "warn",
    ),
    "a label is gone from what was added": (
        [*OLD, *documents(200, seed=15, shares=(0.6, 0.4, 0.0))],
        "labels",
        "warn",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_matters_is_caught(change: str) -> None:
    new, check, verdict = CHANGES[change]
    found = findings(new)
    assert found[check].verdict == verdict, found[check].line
    others = {name for name, each in found.items() if each.verdict == "stop"} - {check}
    assert not others, [found[name].line for name in others]


TYPO = replace(OLD[100], text=OLD[100].text.replace("word1", "wrod1", 1))
HARMLESS: dict[str, list[LabelledText]] = {
    "nothing": OLD,
    "more of the same": [*OLD, *documents(200, seed=7)],
    "another order": list(reversed(OLD)),
    "white space at line ends": [
        each if number < 40 else replace(each, text=each.text + "  \r\n")
        for number, each in enumerate(OLD)
    ],
    "a corrected typo": [*OLD[:100], TYPO, *OLD[101:]],
    "some documents removed": OLD[:280],
}


@pytest.mark.parametrize("change", HARMLESS)
def test_a_harmless_change_is_let_through(change: str) -> None:
    found = findings(HARMLESS[change])
    assert {each.verdict for each in found.values()} == {"fine"}, [
        each.line for each in found.values() if each.verdict != "fine"
    ]


def test_a_new_rare_label_passes_where_the_rules_allow_it() -> None:
    new = [*OLD, replace(documents(1, seed=8)[0], label="weather")]
    assert worst(tuple(findings(new).values())) == "stop"
    assert worst(tuple(findings(new, new_labels="fine").values())) == "fine"


def test_many_documents_do_not_turn_a_trifle_into_an_alarm() -> None:
    old = documents(3000, seed=9, length=6)
    new = [*old, *documents(3000, seed=10, length=6, shares=(0.47, 0.27, 0.26))]
    rules = DriftConfig(text="fine", duplicates="fine")
    found = [each for each in compare(old, new, rules=rules) if each.check == "labels"]
    assert min(each.p_value or 1.0 for each in found) < 1e-4
    assert {each.verdict for each in found} == {"fine"}


def test_few_documents_of_one_label_count_beside_very_many_old_ones() -> None:
    old = documents(3000, seed=16, length=6)
    new = [*old, *documents(30, seed=17, length=6, shares=(0.0, 0.0, 1.0))]
    found = compare(old, new, rules=DriftConfig(text="fine", duplicates="fine"))
    assert [each.verdict for each in found if each.check == "labels"] == ["fine", "warn"]
