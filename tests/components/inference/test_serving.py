"""What a request may ask and a model may be told; the rest is one line."""

from typing import Any

import numpy as np
import pytest

from components.errors import ConfigError, DataError
from components.inference.serving import (
    ServingConfig,
    batch_size_of,
    check_request,
    serving_config,
)

TEXT = {"text": "string"}
QUESTION = {"query": "string", "candidates": "list of string"}
LIMITS = ServingConfig(max_documents=3, max_characters=10, max_bytes=20)


@pytest.mark.parametrize(
    "records",
    [[], [{"text": ""}], [{"text": "a" * 10}] * 2, [{"text": "\u00e4" * 10}], [{"text": "a"}] * 3],
)
def test_up_to_the_limits_everything_is_taken(records: Any) -> None:
    check_request(records, TEXT, LIMITS)


def test_lists_of_texts_are_taken_where_the_task_takes_them() -> None:
    for candidates in (["a", "b"], ("a", "b"), np.array(["a", "b"], dtype=object)):
        check_request([{"query": "q", "candidates": candidates}], QUESTION, LIMITS)


@pytest.mark.parametrize(
    ("records", "columns", "told"),
    [
        ([{"text": "a"}] * 4, TEXT, "4 documents, at most 3 are answered at once"),
        ([{"text": "a"}, {"text": "a" * 11}], TEXT, "a text of document 2 has 11 characters"),
        ([{"text": "a" * 7}] * 3, TEXT, "21 bytes of text, at most 20"),
        ([{"query": "q", "candidates": ["a" * 10, "b" * 10]}], QUESTION, "21 bytes"),
        ([{"text": None}], TEXT, "column 'text' of document 1 holds NoneType, expected string"),
        ([{"text": float("nan")}], TEXT, "holds float, expected string"),
        ([{"text": ["a", "b"]}], TEXT, "holds list, expected string"),
        ([{"query": "q", "candidates": "ab"}], QUESTION, None),
        ([{"query": "q", "candidates": 7}], QUESTION, "holds int, expected list of string"),
        ([{"query": "q", "candidates": ["a", 7]}], QUESTION, "holds int, expected list of string"),
        ([{"text": "a\ud800"}], TEXT, "a text of document 1 holds half a character"),
    ],
)
def test_what_goes_beyond_them_is_refused_in_one_line_that_names_it(
    records: Any, columns: Any, told: str | None
) -> None:
    if told is None:  # the task itself says what is wrong with it
        check_request(records, columns, LIMITS)
        return
    with pytest.raises(DataError) as error:
        check_request(records, columns, LIMITS)
    assert told in str(error.value) and str(error.value).startswith("request: ")
    assert "\n" not in str(error.value)


def test_a_batch_is_bounded() -> None:
    assert batch_size_of({}, 8) == 8
    assert batch_size_of({"batch_size": np.int32(64)}, 8) == 64
    for wrong in (0, -1, 65, 10**9):
        with pytest.raises(DataError, match="expected 1 to 64"):
            batch_size_of({"batch_size": wrong}, 8)


def test_an_older_model_is_told_nothing() -> None:
    assert serving_config(None) == serving_config({}) == ServingConfig()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"max_documents": 0}, "model_config: max_documents"),
        ({"max_bytes": "1 MB"}, "model_config: max_bytes"),
        ({"follow_seconds": 0.0}, "model_config: follow_seconds"),
        ({"max_docs": 3}, "model_config: .*max_docs"),
    ],
)
def test_a_setting_that_is_none_is_refused_by_its_name(values: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        serving_config(values)
