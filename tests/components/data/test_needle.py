"""The needle task: lengths, depths, labels and splits are what the settings say."""

from collections import Counter

import pytest

from components.data import needle_words
from components.data.needle import needle_place
from components.data.settings import ColumnsConfig, DataConfig, NeedleConfig
from components.data.sources import source_of
from components.data.validation import Loaded, check_between_rows
from components.errors import ConfigError
from components.tasks.labelled_text import labelled_texts


def words(text, count):
    return len(text.split()) >= count


def config(*, split_seed=10, **settings):
    small = {
        "lengths": (100, 200),
        "depths": (0.0, 0.5, 1.0),
        "labels": 2,
        "train_documents": 24,
        "validation_documents": 12,
        "test_documents": 12,
    }
    return DataConfig(needle=NeedleConfig(**(small | settings)), split_seed=split_seed)


def read(settings):
    rows = source_of(settings).read(settings, words)
    return Loaded({split: labelled_texts(each, ColumnsConfig())[0] for split, each in rows.items()})


def split_up(document):
    """Share of the filler that stands before the needle; the needle's sentences; how many sentences
    are filler; the needle's places; how many sentences there are.
    """
    sentences = document.text.replace(". ", ".\n").split("\n")
    passages = [
        any(name in sentence for name in (needle_words.RECEIVER, *needle_words.OTHER_RECEIVERS))
        for sentence in sentences
    ]
    places = [
        place for place, sentence in enumerate(sentences) if needle_words.RECEIVER in sentence
    ]
    assert places == list(range(places[0], places[-1] + 1))
    filler = len(sentences) - sum(passages)
    return (
        (places[0] - sum(passages[: places[0]])) / filler,
        [sentences[place] for place in places],
        filler,
        places,
        len(sentences),
    )


@pytest.mark.parametrize("sentences", [1, 3])
def test_one_needle_says_the_label_at_its_depth(sentences):
    for documents in read(config(sentences=sentences, lengths=(200, 300))).splits.values():
        for document in documents:
            share, needle, filler, places, total = split_up(document)
            assert len(needle) == sentences
            assert all(
                any(item in sentence for item in needle_words.ITEMS[document.label])
                for sentence in needle
            )
            wanted = needle_place(document.id).depth
            assert abs(share - wanted) <= 1 / filler
            assert (places[0] == 0) == (wanted == 0.0)
            assert (places[-1] == total - 1) == (wanted == 1.0)
            others = [
                item
                for label, items in needle_words.ITEMS.items()
                if label != document.label
                for item in items
            ]
            assert not any(
                f" {item} " in f" {document.text.replace(',', ' ').replace('.', ' ')} "
                for item in others
            )


def test_documents_are_as_long_as_their_id_says_to_within_a_sentence():
    for documents in read(config()).splits.values():
        for document in documents:
            assert (
                needle_place(document.id).length - 4 - 15
                <= len(document.text.split())
                <= needle_place(document.id).length - 4
            )


def test_every_cell_of_length_depth_and_label_is_filled_alike():
    splits = read(config(test_lengths=(90, 120, 150), test_documents=36)).splits
    cells = Counter((needle_place(document.id), document.label) for document in splits["test"])
    assert len(cells) == 3 * 3 * 2
    assert set(cells.values()) == {2}
    assert {needle_place(document.id).length for document in splits["train"]} == {100, 200}
    assert Counter(document.label for document in splits["train"]) == {
        "instrument": 12,
        "fruit": 12,
    }


def test_distractors_have_the_needles_form_and_none_of_its_words():
    document = read(config(distractors=5)).splits["train"][0]
    stated = [item for item in needle_words.OTHER_ITEMS if item in document.text]
    assert 1 <= len(stated) <= 5
    assert not set(needle_words.OTHER_ITEMS) & {
        item for items in needle_words.ITEMS.values() for item in items
    }


def test_splits_share_no_document_and_ids_are_unique():
    loaded = check_between_rows(read(config(train_documents=200)))
    assert not loaded.problems
    ids = [document.id for documents in loaded.splits.values() for document in documents]
    assert len(ids) == len(set(ids)) == 224


def test_the_same_settings_give_the_same_documents_and_more_documents_keep_the_first():
    few, many = read(config()).splits["train"], read(config(train_documents=48)).splits["train"]
    assert many[:24] == few == read(config()).splits["train"]
    assert read(config(split_seed=11)).splits["train"] != few


def test_a_length_without_room_is_named_and_max_tokens_must_hold_the_longest():
    with pytest.raises(ConfigError, match=r"data\.needle: 20 tokens are too few"):
        read(config(lengths=(20,)))
    with pytest.raises(
        ValueError, match=r"documents of 2000 tokens, which max_tokens 1024 would cut"
    ):
        config(test_lengths=(2000,))


def test_prepared_documents_keep_their_length_in_tokens(bert_like, tmp_path):
    from components.tasks import prepare

    settings = config().model_copy(update={"max_tokens": 256})
    prepared = prepare(settings, bert_like, tokenizer_id="letters", cache_path=tmp_path)
    test = prepared.splits["test"]
    assert all(
        needle_place(identity).length - 40 < length <= needle_place(identity).length
        for identity, length in zip(test.ids, test.lengths, strict=True)
    )
