import shlex

import pytest

from components.config.loading import apply_override
from components.settings import set_option

WORDS = """text a_b-1.c yes NULL ~ 1 1e5 .5 0x1f ' " \\ !x &x *x %x @x {a} [a] -x a=b = << #a
2020-01-01 $HOME `x` caf\u00e9 \U0001f6a2 \ufeff \ud800"""
LINES = ["", " ", " a", "a: b", "a #b", "a\tb\nc", "\u2028", "\x00\x1b\x7f\x85", "- a", "a  b"]


@pytest.mark.parametrize("value", [*WORDS.split(), *LINES])
def test_an_advised_option_arrives_as_it_was_meant(value):
    option, override = shlex.split(set_option("data.columns.text", value))
    values = {}
    apply_override(values, override)
    assert (option, values) == ("--set", {"data": {"columns": {"text": value}}})


def test_a_plain_value_is_not_quoted():
    assert set_option("data.columns.text", "body") == "--set data.columns.text=body"
