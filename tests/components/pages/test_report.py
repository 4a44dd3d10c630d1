"""The report is one file that needs nothing else and runs nothing, whatever the texts are."""

import re
from html.parser import HTMLParser

import pytest

from components.pages import report_html
from components.pages.markup import link
from tests.components.pages import searches


class Reader(HTMLParser):
    """Every tag with its attributes, every text, and whether tags close in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("search", searches.ALL)
def test_a_report_holds_its_pictures_and_fetches_and_runs_nothing(search):
    text = report_html(searches.ALL[search]())
    reader = read(text)
    pictures = [found["src"] for tag, found in reader.tags if tag == "img"]
    assert len(pictures) == (1 if search == "none" else 3 if search in ("one", "hostile") else 4)
    assert all(source.startswith("data:image/png;base64,") for source in pictures)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "iframe", "link", "object", "embed", "form", "base"}
    for tag, found in reader.tags:
        assert not [name for name in found if name.startswith("on")]
        assert "src" not in found or tag == "img"
        assert (found.get("href") or "http").startswith("http")
    assert "url(" not in text and "@import" not in text


def test_200_trials_take_less_than_5_mb():
    assert len(report_html(searches.many(200, settings=3)).encode()) < 5_000_000


def test_hostile_texts_are_shown_letter_by_letter():
    text = report_html(searches.hostile())
    assert "<script" not in text
    shown = " ".join("".join(read(text).texts).split())
    assert " ".join(searches.HOSTILE.split()) in shown


def test_an_address_is_a_link_only_where_it_leads_to_a_page():
    assert link("javascript:alert(1)", "<x>") == "&lt;x&gt;"
    assert link("", "x") == "x"
    assert link('http://a/"b', "x").startswith('<a href="http://a/&quot;b" ')


def test_the_page_answers_what_a_reader_asks():
    page = searches.six()
    shown = " ".join("".join(f" {text} " for text in read(report_html(page)).texts).split())
    for answer in (
        "003 P=8 lr=1e-2: validation/accuracy at step",
        "demo version 4",
        "now champion; champion before: version 3",
        "promote",
        "2 completed, 3 stopped, 1 diverged",
        "0.917",
        "95%: 0.875 to 0.945",
        "446edf2b70fd3fe3",
        "8d928a2 (tree clean)",
        "prefixprop search demo --set search.num_trials=6",
        "slice class billing",
        "majority",
        "temperature",
        "in 7 min 13 s",
        "among the worse half at its rung",
    ):
        assert answer in shown, answer


def test_the_leaderboard_is_best_first_by_the_best_evaluation():
    page = searches.many(24)
    rows = re.findall(r"<tr class=\"[^\"]*\"><td>(\d+|-)</td><td><a [^>]*>(\d+)", report_html(page))
    ranks = [rank for rank, _ in rows]
    known = [trial for trial in page.trials if trial.best_value is not None]
    assert ranks == [str(place + 1) for place in range(len(known))] + ["-"] * (24 - len(known))
    order = sorted(known, key=lambda trial: -trial.best_value)
    assert [name for _, name in rows[: len(known)]] == [trial.name[:3] for trial in order]
    assert 'class="best"' in report_html(page)
    assert 'class="best"' not in report_html(searches.without_any_evaluation())
