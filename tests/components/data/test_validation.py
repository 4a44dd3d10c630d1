import pytest

from components.data.documents import Row
from components.data.settings import ColumnsConfig
from components.data.validation import (
    Loaded,
    check_between_rows,
    label_order,
    one_of_each_reason,
    resolve,
)
from components.errors import DataError
from components.tasks.labelled_text import (
    LabelledText,
    class_names,
    labelled_texts,
    without_labels_unknown_to_train,
)


def checked_between_rows(loaded):
    return check_between_rows(loaded, (without_labels_unknown_to_train,))


def one_row(**values):
    documents, problems = labelled_texts(
        [Row("a.jsonl", 1, {"text": "t", "label": "x"}), Row("a.jsonl", 2, values)], ColumnsConfig()
    )
    return documents[1:], problems


def documents(split, *given):
    """Each given as "id text label"."""
    return [
        LabelledText(id, text, label, f"{split}.jsonl", row)
        for row, (id, text, label) in enumerate(map(str.split, given), start=1)
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"text": " \n", "label": "x"}, "empty_text"),
        ({"text": None, "label": "x"}, "empty_text"),
        ({"text": 3, "label": "x"}, "broken_row"),
        ({"label": "x"}, "missing_column"),
        ({"text": "t"}, "missing_column"),
        ({"text": "t", "label": None}, "unknown_label"),
        ({"text": "t", "label": " "}, "unknown_label"),
        ({"text": "t", "label": 1.5}, "unknown_label"),
        ({"text": "caf\udce9", "label": "x"}, "bad_encoding"),
        ({"text": "t", "label": "\udce9"}, "bad_encoding"),
    ],
)
def test_a_row_that_cannot_be_used_names_reason_file_and_row(values, reason):
    kept, (problem,) = one_row(**values)
    assert kept == []
    assert problem.reason == reason
    assert str(problem).startswith("a.jsonl row 2: ")


@pytest.mark.parametrize(("label", "text"), [("x", "x"), (3, "3"), (True, "true"), (" x ", "x")])
def test_labels_are_text_or_integers(label, text):
    (document,), _ = one_row(text="t", label=label)
    assert document.label == text


def test_ids_are_made_from_file_and_row_where_there_are_none():
    assert [document.id for document in one_row(text="t", label="x")[0]] == ["a.jsonl:2"]
    assert [document.id for document in one_row(text="t", label="x", id=7)[0]] == ["7"]


def test_a_column_that_no_row_has_lists_the_columns_there_are():
    rows = [Row("a.csv", 2, {"txt": "t", "label": "x"})]
    with pytest.raises(
        DataError,
        match=(
            r"a\.csv row 1: no column 'text'; the columns are txt, label\. Did you mean "
            r"'txt'\?.*data\.columns\.text"
        ),
    ):
        labelled_texts(rows, ColumnsConfig())
    with pytest.raises(DataError, match="separated by ';'"):
        labelled_texts([Row("a.csv", 2, {"text;label": "t;x"})], ColumnsConfig())


def test_labels_are_in_sorted_order_and_integers_in_numeric_order():
    assert label_order(["b", "a", "10", "b"]) == ("10", "a", "b")
    assert label_order(["10", "9", "-1", "9"]) == ("-1", "9", "10")


def test_the_second_document_of_an_id_is_a_problem():
    checked = checked_between_rows(Loaded({"train": documents("train", "1 a x", "1 b y", "2 c y")}))
    assert [document.text for document in checked.splits["train"]] == ["a", "c"]
    assert str(checked.problems[0]).startswith("train.jsonl row 2: id '1' is also in row 1")


def test_a_shared_document_is_kept_in_test_before_validation_before_train():
    splits = {
        "train": documents("train", "1 a x", "2 b y", "3 c x", "8 e y"),
        "validation": documents("validation", "4 b y", "5 d x"),
        "test": documents("test", "6 a x", "7 d x"),
    }
    checked = checked_between_rows(Loaded(splits))
    assert {
        split: [document.text for document in each] for split, each in checked.splits.items()
    } == {
        "train": ["c", "e"],
        "validation": ["b"],
        "test": ["a", "d"],
    }
    assert {problem.reason for problem in checked.problems if "same text" in problem.found} == {
        "shared_document"
    }
    assert "train.jsonl row 1: same text as test.jsonl row 1" in str(
        next(each for each in checked.problems if each.file == "train.jsonl")
    )


def test_a_shared_id_is_a_shared_document_unless_ids_only_number_the_rows():
    named = checked_between_rows(
        Loaded(
            {"train": documents("train", "n7 a x", "n8 b x"), "test": documents("test", "n7 c x")}
        )
    )
    assert [problem.reason for problem in named.problems] == ["shared_document"]
    numbered = checked_between_rows(
        Loaded({"train": documents("train", "0 a x", "1 b x"), "test": documents("test", "0 c x")})
    )
    assert numbered.problems == []
    with_gaps = checked_between_rows(
        Loaded(
            {
                "train": documents("train", "0 a x", "1 b x", "3 e y"),
                "test": documents("test", "0 c x", "1 d x"),
            }
        )
    )
    assert with_gaps.problems == []


def test_a_label_that_train_lacks_is_a_problem_of_its_split():
    splits = {
        "train": documents("train", "1 a x", "2 b y"),
        "validation": documents("validation", "3 c z"),
        "test": documents("test", "4 d x", "5 e w"),
    }
    checked = checked_between_rows(Loaded(splits))
    assert [(problem.reason, problem.file, problem.row) for problem in checked.problems] == [
        ("label_only_in_validation", "validation.jsonl", 1),
        ("label_only_in_test", "test.jsonl", 2),
    ]


def test_fail_names_the_first_rows_and_drop_counts_them():
    _, problems = labelled_texts(
        [Row("a.jsonl", number, {"text": "", "label": "x"}) for number in range(1, 6)],
        ColumnsConfig(),
    )
    loaded = Loaded({"train": documents("train", "1 a x", "2 b y")}, problems)
    with pytest.raises(
        DataError,
        match=(
            r"5 invalid rows \(5 empty_text\): a\.jsonl row 1: .*delete the row.*row "
            r"3.*data\.on_invalid=drop"
        ),
    ):
        resolve(loaded, "fail")
    assert resolve(loaded, "drop") == {"empty_text": 5}


def test_every_reason_is_shown_before_a_reason_is_shown_twice():
    rows = [Row("a.jsonl", number, {"text": "", "label": "x"}) for number in range(1, 4)] + [
        Row("a.jsonl", 9, {"text": "t", "label": None})
    ]
    _, problems = labelled_texts(rows, ColumnsConfig())
    assert [problem.row for problem in one_of_each_reason(problems)] == [1, 9, 2, 3]


def test_one_label_or_an_empty_split_always_stops():
    with pytest.raises(DataError, match="at least two labels"):
        class_names(documents("train", "1 a x"))
    with pytest.raises(DataError, match="no valid document left for test"):
        resolve(Loaded({"train": documents("train", "1 a x", "2 b y"), "test": []}), "drop")


def test_rows_without_ids_in_files_of_one_name_are_no_shared_documents():
    rows = {
        split: [
            Row(f"{split}/data.jsonl", number, {"text": f"{split} {number}", "label": "x"})
            for number in (1, 2)
        ]
        for split in ("train", "test")
    }
    splits = {split: labelled_texts(each, ColumnsConfig())[0] for split, each in rows.items()}
    assert checked_between_rows(Loaded(splits)).problems == []
