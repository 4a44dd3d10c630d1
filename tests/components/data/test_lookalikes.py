import pytest

from components.data.lookalikes import is_blank, plain, shown, shown_exactly


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("\u212bngstr\u00f6m", "A\u030angstro\u0308m"),
        ("in", "in\u200b"),
        ("in", "\ufeffin"),
        ("in", "i\u00adn"),
        ("in", "\u202ein\u202c"),
        ("in", "\u2066in\u2069"),
        ("in", "i\u200dn"),
        ("in", "i\u034fn"),
        ("in", "in\x00"),
        ("in", "in\ufe0f"),
        ("in port", "in\u00a0port"),
        ("in port", "in  port"),
        ("in port", "\tin\u3000port\u2028"),
        ("in", "\uff49\uff4e"),
        ("fin", "\ufb01n"),
    ],
)
def test_texts_that_look_the_same_are_the_same(one, other):
    assert plain(one) == plain(other)
    assert shown_exactly(one) != shown_exactly(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("In", "in"), ("m2", "m\u00b2"), ("1", "\u2460"), ("e", "\u00e9"), ("a", "\u0430"), ("", "-")],
)
def test_visible_differences_stay(one, other):
    assert plain(one) != plain(other)


def test_a_text_of_spaces_and_invisible_characters_is_blank():
    assert is_blank("") and is_blank(" \n\u00a0\u200b\ufeff\u00ad\x00")
    assert not is_blank("\u200b.") and not is_blank("\U0001f6a2")


def test_what_is_shown_is_one_bounded_line_without_escapes_for_the_terminal():
    assert shown("caf\u00e9\x1b[31m\n\u202e\udce9") == "caf\u00e9\\x1b[31m\\x0a\\u202e\\udce9"
    assert shown("a" * 1000) == "a" * 77 + "..."
    assert shown_exactly("caf\u00e9") == "caf\\xe9"
