"""Copies and leaks: found in whatever form they come, and no alarm for what was there before."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from components.data.drift.checks import Finding, compare
from components.data.drift.quotations import held_documents
from components.data.drift.settings import DriftConfig
from components.tasks.labelled_text import LabelledText

Documents = list[LabelledText]


def documents(count: int, *, seed: int, length: int = 60) -> Documents:
    """Texts of sentences, of which no two share three words in a row."""
    draw = np.random.default_rng(seed)
    words = [f"Word{number}" for number in range(900)]
    return [
        LabelledText(
            f"{seed}-{row}",
            ". ".join(" ".join(draw.choice(words, 6)) for _ in range(length // 6)) + ".",
            "ab"[row % 2],
            f"{seed}.jsonl",
            row + 1,
        )
        for row in range(count)
    ]


OLD, MORE = documents(200, seed=1), documents(100, seed=2)
TEST = OLD[:50]


def finding(new: Documents, check: str, old: Documents = OLD) -> Finding:
    tested = {each.id for each in TEST}
    test_set = [each for each in new if each.id in tested]
    found = compare(old, new, test_set=test_set, rules=DriftConfig(text="fine"))
    (wanted,) = (each for each in found if each.check == check)
    return wanted


def quoted(text: str) -> str:
    return "Somebody wrote:\n" + "\n".join(f"> {line}" for line in text.split(". "))


FORMS: dict[str, Callable[[str], str]] = {
    "word for word": lambda text: text,
    "with more behind it": lambda text: text + " And that is all.",
    "quoted line by line in a longer one": lambda text: (
        f"{MORE[90].text}\n{quoted(text)}\n{MORE[91].text}"
    ),
    "in small letters": str.lower,
    "without marks": lambda text: re.sub(r"[^\w\s]", "", text),
    "under another date": lambda text: f"On 3.4.2026, 12:00:\n{text}",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_test_document_is_found_among_the_others_in_any_form(form: str) -> None:
    leaks = [replace(each, id=f"l{each.id}", text=FORMS[form](each.text)) for each in TEST[:3]]
    found = finding([*OLD, *leaks], "leaks")
    assert (found.verdict, found.effect) == ("stop", pytest.approx(3 / 50))


def test_a_finding_names_where_both_stand() -> None:
    copy = replace(OLD[3], id="x", file="new.jsonl", row=7)
    assert "new.jsonl row 7 and 1.jsonl row 4" in finding([*OLD, copy], "leaks").line


def test_few_leaks_are_a_warning_and_those_of_before_none() -> None:
    tests = documents(200, seed=3)
    rules, leak = DriftConfig(text="fine"), replace(tests[0], id="x", text=tests[0].text + " More")
    old = [*tests, *OLD]

    def verdict(old: Documents, new: Documents) -> str:
        found = compare(old, new, test_set=new[:200], rules=rules)
        return next(each.verdict for each in found if each.check == "leaks")

    assert verdict(old, [*old, leak]) == "warn"  # 1 of 200 is no more than leak_share
    assert verdict([*old, leak], [*old, leak, *MORE]) == "fine"
    mended = replace(leak, text=leak.text.replace("Word", "Ward", 1))
    assert verdict([*old, leak], [*old, mended]) == "fine"


def test_a_short_text_that_stands_in_many_is_no_leak() -> None:
    thanks = "Thanks in advance for your help"
    assert held_documents([f"{MORE[0].text} {thanks}"], [thanks]) == [None]
    assert held_documents([thanks.upper()], [thanks]) == [0]


@pytest.mark.parametrize(
    ("added", "share"),
    [
        ([replace(MORE[0], id=f"c{row}") for row in range(40)], 39 / 40),
        ([replace(OLD[60 + row], id=f"o{row}") for row in range(40)], 1.0),
        (
            [
                replace(OLD[60 + row], id=f"d{row}", text=f"{OLD[60 + row].text} {row}.4.2026")
                for row in range(40)
            ],
            1.0,
        ),
    ],
    ids=["one new text", "old texts again", "old texts under other dates"],
)
def test_a_flood_of_copies_is_caught(added: Documents, share: float) -> None:
    found = finding([*OLD, *added], "duplicates")
    assert found.verdict == "warn" and found.effect == pytest.approx(share, abs=0.1)


def test_corrected_documents_are_no_copies_of_what_they_were() -> None:
    corrected = [replace(each, text=each.text.replace("Word", "Ward", 1)) for each in OLD[60:120]]
    found = finding([*OLD[:60], *corrected, *OLD[120:]], "duplicates")
    assert (found.verdict, found.effect) == ("fine", 0.0)


def test_ids_that_are_no_longer_given_are_told() -> None:
    numbered = [replace(each, id=f"1.jsonl:{each.row}") for each in OLD]
    found = finding(numbered, "ids")
    assert found.verdict == "warn" and "0 of 200" in found.line
    assert finding(OLD, "ids", old=numbered).verdict == "fine"
    assert finding([*OLD, *MORE], "ids").verdict == "fine"
