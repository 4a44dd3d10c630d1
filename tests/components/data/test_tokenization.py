import numpy as np
import pytest

from components.data import tokenization
from components.data.tokenization import encode, has_tokens
from components.errors import ConfigError

TEXTS = ["a b c d e f g", "a", "x y z " * 50, "a b c"]


@pytest.mark.parametrize("max_tokens", [4, 5, 100])
def test_truncation_keeps_the_tokenizers_template_and_counts_what_it_cuts(
    any_tokenizer, max_tokens
):
    encoded = [
        each for chunk in encode(TEXTS, any_tokenizer, max_tokens=max_tokens) for each in chunk
    ]
    for text, each in zip(TEXTS, encoded, strict=True):
        full = any_tokenizer(text)["input_ids"]
        assert each.full_length == len(full)
        assert (
            each.input_ids.tolist()
            == any_tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"]
        )
        assert len(each.input_ids) == min(len(full), max_tokens)


def test_chunks_give_the_documents_in_order(bert_like, monkeypatch):
    whole = [each for chunk in encode(TEXTS, bert_like, max_tokens=10) for each in chunk]
    monkeypatch.setattr(tokenization, "CHARACTERS_PER_CALL", 5)
    chunks = list(encode(TEXTS, bert_like, max_tokens=10))
    assert len(chunks) == len(TEXTS)
    assert all(
        np.array_equal(a.input_ids, b[0].input_ids) for a, b in zip(whole, chunks, strict=True)
    )


def test_no_room_for_text_is_a_config_error(bert_like):
    with pytest.raises(ConfigError, match=r"data\.max_tokens: 2 .* at least 3"):
        list(encode(TEXTS, bert_like, max_tokens=2))


def test_has_tokens_counts_text_without_special_tokens(any_tokenizer):
    has = has_tokens(any_tokenizer)
    assert has("a b c", 3)
    assert not has("a b c", 4)
