from collections import Counter
from itertools import product

import pytest

from components.data.carving import complete_splits
from components.data.settings import DataConfig, FilesConfig
from components.data.validation import Loaded
from components.errors import ConfigError, DataError
from components.tasks.labelled_text import LabelledText


def some(count, first=0):
    return [
        LabelledText(str(number), f"text {number}", "xyyy"[number % 4], "train.jsonl", number + 1)
        for number in range(first, first + count)
    ]


def carve(documents, others=None, **settings):
    config = DataConfig(files=FilesConfig(train="train.jsonl"), **settings)
    return complete_splits(Loaded({"train": documents, **(others or {})}), config)


def texts(documents):
    return {document.text for document in documents}


def test_carved_splits_are_stratified_disjoint_and_complete():
    splits = carve(some(200), test_fraction=0.2, validation_fraction=0.1)
    assert {
        split: Counter(document.label for document in each) for split, each in splits.items()
    } == {
        "train": {"x": 35, "y": 105},
        "validation": {"x": 5, "y": 15},
        "test": {"x": 10, "y": 30},
    }
    assert sorted(text for each in splits.values() for text in texts(each)) == sorted(
        texts(some(200))
    )


def test_only_the_missing_split_is_carved():
    splits = carve(some(40), {"test": some(8, first=100)})
    assert len(splits["test"]) == 8
    assert len(splits["train"]) + len(splits["validation"]) == 40


def test_validation_can_be_half_of_the_test_documents():
    splits = carve(
        some(40), {"test": some(40, first=100)}, validation_from="test", validation_fraction=0.5
    )
    assert texts(splits["train"]) == texts(some(40))
    assert len(splits["validation"]) == len(splits["test"]) == 20
    assert texts(splits["validation"]) | texts(splits["test"]) == texts(some(40, first=100))
    with pytest.raises(
        ConfigError, match=r"data\.validation_from: test needs a source with test documents"
    ):
        carve(some(40), validation_from="test")


def test_carving_ignores_the_order_of_rows():
    assert texts(carve(some(100))["test"]) == texts(carve(some(100)[::-1])["test"])
    assert texts(carve(some(100))["test"]) != texts(carve(some(100), split_seed=11)["test"])


def test_growing_data_keep_most_test_documents_in_test():
    before, after = texts(carve(some(400))["test"]), texts(carve(some(440))["test"])
    assert len(before & after) > 0.9 * len(before)


def test_equal_texts_land_in_one_split():
    twice = some(100) + [
        LabelledText(f"again {each.id}", each.text, each.label, each.file, each.row + 100)
        for each in some(100)
    ]
    splits = carve(twice)
    assert not texts(splits["train"]) & texts(splits["test"])
    assert not texts(splits["train"]) & texts(splits["validation"])
    assert len(splits["test"]) == 2 * len(texts(splits["test"]))


def test_every_label_stays_in_train_at_the_largest_fractions():
    splits = carve(some(16), test_fraction=0.49, validation_fraction=0.49)
    assert {document.label for document in splits["train"]} == {"x", "y"}


def with_other_labels(count, **given):
    """`some(count)`, and for each given label documents of it with the texts of these numbers."""
    return some(count) + [
        LabelledText(f"{label} {text}", f"text {text}", label, "train.jsonl", count + place)
        for label, texts in given.items()
        for place, text in enumerate(texts, start=1)
    ]


@pytest.mark.parametrize(
    "rare",
    [
        {"rare": [7]},
        {"rare": [7], "rarer": [8]},
        {"rare": [7], "rarer": [7]},
        {"rare": [1, 2, 3, 5]},
        {"rare": range(1, 30), "rarer": range(1, 40)},
    ],
)
def test_a_label_whose_texts_carry_others_too_stays_in_train(rare):
    documents = with_other_labels(60, **rare)
    for seed, cap, step in product(range(40), (None, 5), (1, -1)):
        splits = carve(documents[::step], split_seed=seed, max_documents=cap)
        known = {each.label for each in splits["train"]}
        assert all(each.label in known for split in splits.values() for each in split)
        places = [texts(split) for split in splits.values()]
        assert sum(len(each) for each in places) == len(set.union(*places))


def test_a_label_of_validation_carved_from_test_is_in_train_too():
    test = with_other_labels(60, z=[7])
    train = with_other_labels(40, z=[41, 42])
    splits = carve(train, {"test": test}, validation_from="test", validation_fraction=0.5)
    known = {each.label for each in splits["train"]}
    assert all(each.label in known for split in splits.values() for each in split)


def test_max_documents_caps_every_split_in_proportion():
    splits = carve(some(400), max_documents=20)
    assert [len(each) for each in splits.values()] == [20, 20, 20]
    assert Counter(document.label for document in splits["train"]) == {"x": 5, "y": 15}
    with pytest.raises(
        ConfigError, match=r"data\.max_documents: 1 is less than the number of labels"
    ):
        carve(some(400), max_documents=1)


def test_too_few_documents_to_carve_from_say_so():
    with pytest.raises(DataError, match="too few to carve test from"):
        carve(some(3))
