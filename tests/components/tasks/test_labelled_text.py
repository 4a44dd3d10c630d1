from types import SimpleNamespace

import numpy as np
import pytest

from components.data.documents import Row, SplitName
from components.data.settings import ColumnsConfig
from components.data.validation import Loaded, check_between_rows, resolve
from components.errors import DataError
from components.tasks.classification import CLASSIFICATION
from components.tasks.labelled_text import labelled_texts


def checked(train, test=None):
    """The rows of each split with these labels, checked as preparation does."""
    loaded = Loaded({})
    given: dict[SplitName, list[object]] = {"train": train} | ({"test": test} if test else {})
    for split, each in given.items():
        rows = [
            Row(f"{split}.csv", number, {"text": f"{split} {number}", "label": label})
            for number, label in enumerate(each, start=2)
        ]
        loaded.splits[split], problems = labelled_texts(rows, ColumnsConfig())
        loaded.problems += problems
    return check_between_rows(loaded, CLASSIFICATION.checks)


@pytest.mark.parametrize(
    ("usual", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("cafe\u0301", "caf\u00e9"),
        ("in", "\ufeffin"),
        ("in", "in\u200b"),
        ("in", "i\u00adn"),
        ("in", "\u202ain\u202c"),
        ("in port", "in\u00a0port"),
        ("in", "in\x00"),
    ],
)
def test_labels_that_look_the_same_are_refused_with_both_rows(usual, other):
    with pytest.raises(DataError) as refused:
        resolve(checked(train=["out", usual, other, usual]), "fail")
    message = str(refused.value)
    assert "1 lookalike_label" in message
    assert "train.csv row 4: label '" in message and "of train.csv row 3, but" in message
    assert "write it the same in every row" in message
    assert message.isascii() and message.isprintable()


def test_a_lookalike_of_another_split_is_named_before_it_counts_as_unknown():
    found = checked(train=["in", "out", "in"], test=["i\u200dn", "out"])
    assert [(each.reason, each.file, each.row) for each in found.problems] == [
        ("lookalike_label", "test.csv", 2)
    ]
    assert resolve(found, "drop") == {"lookalike_label": 1}
    assert [document.label for document in found.splits["test"]] == ["out"]


def test_one_way_of_writing_and_visible_differences_are_classes():
    labels = [
        "in",
        "In",
        "IN\u200b",
        "m2",
        "m\u00b2",
        "\u0645\u06cc\u200c\u0631",
        " in ",
        "in\u00a0",
    ]
    assert checked(train=labels).problems == []


@pytest.mark.parametrize("label", ["\u200b", "\ufeff\u00ad", "\u00a0 ", "\x00"])
def test_an_invisible_label_is_none(label):
    (problem,) = checked(train=["in", label, "out"]).problems
    assert (problem.reason, problem.row) == ("unknown_label", 3)
    assert str(problem).isprintable()


def test_labels_of_any_number_of_digits_are_ordered():
    long = "9" * 5000
    labels = CLASSIFICATION.labels(checked(train=["10", "9", long]).splits["train"])
    assert labels == ("10", "9", long)
    assert CLASSIFICATION.labels(checked(train=["10", "9"]).splits["train"]) == ("9", "10")


def test_dropping_is_advised_only_where_something_would_be_left():
    with pytest.raises(DataError, match=r"--set data\.on_invalid=drop"):
        resolve(checked(train=["in", "", "out"]), "fail")
    with pytest.raises(DataError, match=r"Mend the data$"):
        resolve(checked(train=["", None]), "fail")


def split_of(label_ids):
    ids = [f"boats.csv:{number}" for number in range(2, 2 + len(label_ids))]
    return SimpleNamespace(label_ids=np.array(label_ids), ids=ids)


def evaluated(data_labels, labels, label_ids):
    CLASSIFICATION.evaluated(
        np.zeros((len(label_ids), len(labels)), dtype=np.float32),
        split_of(label_ids),
        temperature=1.0,
        data_labels=data_labels,
        labels=labels,
    )


def test_an_evaluation_names_a_document_of_a_label_that_the_adapter_does_not_know():
    with pytest.raises(DataError, match=r"'away' \(document 'boats.csv:4'\).*labels: in, out\."):
        evaluated(["away", "in"], ["in", "out"], [1, 1, 0])
    with pytest.raises(DataError, match=r"looks like 'in', but is written 'in\\u200b': write it"):
        evaluated(["in\u200b", "out"], ["in", "out"], [0, 1])
