"""The letters task: what the words give away, and what they do not."""

import re
from collections import Counter

import pytest

from components.data.letter_words import ARTICLES, COMPLAINTS, MORE_COMPLAINT
from components.data.settings import DataConfig, LettersConfig
from components.data.sources import source_of
from components.data.validation import Loaded, check_between_rows
from components.errors import ConfigError
from components.tasks.labelled_text import labelled_texts, without_labels_unknown_to_train


def words(text, count):
    return len(text.split()) >= count


def config(*, split_seed=10, **settings):
    small = {
        "tokens": 150,
        "train_documents": 48,
        "validation_documents": 12,
        "test_documents": 24,
    }
    return DataConfig(letters=LettersConfig(**(small | settings)), split_seed=split_seed)


def read(settings: DataConfig) -> Loaded:
    source = source_of(settings)
    rows, columns = source.read(settings, words), source.columns(settings)
    return Loaded({split: labelled_texts(each, columns)[0] for split, each in rows.items()})


def departments_of(text):
    return {
        department: count
        for department, articles in ARTICLES.items()
        if (count := len(re.findall(rf"\b({'|'.join(articles)})\b", text)))
    }


def complaint_of(text):
    """Department of the article that the sentence of complaint names."""
    places = [
        (article, department)
        for department, articles in ARTICLES.items()
        for article in articles
        if any(form.format(article=article) in text for form in COMPLAINTS)
    ]
    ((_, department),) = places
    return department


def test_the_label_is_the_department_of_the_complaint():
    for documents in read(config()).splits.values():
        assert all(complaint_of(document.content) == document.target for document in documents)


def test_two_departments_are_named_equally_often_and_every_pair_is_balanced():
    documents = read(config()).splits["train"]
    pairs = Counter()
    for document in documents:
        named = departments_of(document.content)
        assert len(named) == 2 and set(named.values()) == {2}
        (other,) = set(named) - {document.target}
        pairs[document.target, other] += 1
        assert sum(document.content.count(form) for form in MORE_COMPLAINT) == 1
    assert len(pairs) == 12 and set(pairs.values()) == {4}


def test_letters_are_as_long_as_asked_to_within_a_sentence():
    for documents in read(config()).splits.values():
        assert all(150 - 4 - 15 <= len(each.content.split()) <= 150 - 4 for each in documents)


def test_more_documents_keep_the_first_and_another_seed_gives_others():
    few, many = read(config()).splits["train"], read(config(train_documents=96)).splits["train"]
    assert many[:48] == few
    assert read(config(split_seed=11)).splits["train"] != few


def test_splits_share_no_letter():
    loaded = check_between_rows(
        read(config(train_documents=480)), (without_labels_unknown_to_train,)
    )
    assert not loaded.problems


def test_a_length_without_room_is_named_and_max_tokens_must_hold_it():
    with pytest.raises(ConfigError, match=r"data\.letters\.tokens: 20 tokens are too few"):
        read(config(tokens=20))
    with pytest.raises(ValueError, match=r"documents of 2000 tokens, which max_tokens 1024"):
        config(tokens=2000)


def test_a_tokenizer_without_tokens_for_the_words_is_refused_instead_of_asked_for_ever():
    settings = config(tokens=64)
    with pytest.raises(ConfigError, match=r"backbone\.name_or_path: .* makes no tokens"):
        source_of(settings).read(settings, lambda text, count: False)
