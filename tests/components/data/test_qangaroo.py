"""Questions in WikiHop's form: what is read, what is refused and how it is named, how they are cut
and batched.
"""

import gzip
import json

import numpy as np
import pytest

from components.data import collate, open_prepared, split_step
from components.data.settings import DataConfig
from components.errors import ConfigError, DataError
from components.tasks import prepare
from components.tasks.question_chunks import ENTITY, ENTITY_END, QUESTION, QUESTION_END, closed_up
from tests.toy import make_questions, make_tokenizer

START, SEPARATOR = 0, 2


@pytest.fixture
def tokenizer(tmp_path):
    return make_tokenizer(tmp_path / "tokenizer")


def prepare_in(folder, tokenizer, *, files=("train",), max_chunks=None, **settings):
    qangaroo = {split: str(folder / f"{split}.json") for split in files} | {
        "max_chunks": max_chunks
    }
    config = DataConfig.model_validate_json(
        json.dumps({"qangaroo": qangaroo, "max_tokens": 40, **settings})
    )
    return prepare(config, tokenizer, tokenizer_id="toy", cache_path=folder / "cache")


def test_the_cache_holds_every_question_as_the_paper_lays_it_out(tmp_path, tokenizer):
    """Word by word against the records: the first part in every chunk, the supports once over all
    chunks.
    """
    records = {
        record["id"]: record for record in make_questions(tmp_path / "train.json", 40, seed=5)
    }
    prepared = prepare_in(tmp_path, tokenizer)
    assert prepared.labels == () and prepared.splits["train"].is_chunked

    def ids(text):
        return [
            tokenizer.vocab.get(word, tokenizer.unk_token_id)
            for word in text.replace(" .", ".").replace(".", " .").split()
        ]

    seen, most = [], 0
    for split in prepared.splits.values():
        for index, identity in enumerate(split.ids):
            record = records[identity]
            first = [START, QUESTION, *ids(record["query"]), QUESTION_END]
            for candidate in record["candidates"]:
                first += [ENTITY, *ids(candidate), ENTITY_END]
            second = [
                token
                for support in record["supports"]
                for token in (SEPARATOR, *ids(support), SEPARATOR)
            ]
            chunks = split.chunks(index)
            assert all(chunk[: len(first)].tolist() == first for chunk in chunks)
            assert [token for chunk in chunks for token in chunk[len(first) :].tolist()] == second
            assert all(len(chunk) == 40 for chunk in chunks[:-1]) and len(chunks[-1]) <= 40
            assert record["candidates"][split.label_ids[index]] == record["answer"]
            assert (
                split.tokens[index]
                == sum(map(len, chunks))
                <= split.lengths[index]
                == len(chunks) * len(chunks[0])
            )
            seen.append(identity)
            most = max(most, len(chunks))
    assert sorted(seen) == sorted(records) and most > 2
    assert len(prepared.splits["validation"]) == len(prepared.splits["test"]) == 6


def test_a_batch_keeps_the_chunks_of_a_question_together_and_within_the_budget(tmp_path, tokenizer):
    make_questions(tmp_path / "train.json", 40, seed=5)
    split = prepare_in(tmp_path, tokenizer).splits["train"]
    steps = split_step(
        np.arange(len(split)), split.lengths, world_size=2, micro_batch_size=4, tokens_per_batch=200
    )
    batches = [rows for rank in steps for rows in rank if len(rows)]
    assert sorted(index for rows in batches for index in rows.tolist()) == list(range(len(split)))
    assert max(len(rows) for rows in batches) > 1
    for rows in batches:
        batch = collate(split, rows, pad_token_id=1)
        assert batch["example_index"].tolist() == [
            place for place, index in enumerate(rows) for _ in split.chunks(index)
        ]
        assert batch["labels"].tolist() == split.label_ids[rows].tolist()
        assert batch["input_ids"].numel() <= 200 or len(rows) == 1
        assert batch["attention_mask"].sum() == split.tokens[rows].sum()


def test_chunks_beyond_the_limit_are_left_out_and_counted(tmp_path, tokenizer):
    make_questions(tmp_path / "train.json", 40, seed=5)
    whole, cut = prepare_in(tmp_path, tokenizer), prepare_in(tmp_path, tokenizer, max_chunks=2)
    assert cut.fingerprint != whole.fingerprint
    assert whole.report.splits["train"].truncated == 0 < cut.report.splits["train"].truncated
    for name, split in cut.splits.items():
        for index in range(len(split)):
            kept = [chunk.tolist() for chunk in whole.splits[name].chunks(index)[:2]]
            assert [chunk.tolist() for chunk in split.chunks(index)] == kept
        assert split.full_lengths.tolist() == whole.splits[name].tokens.tolist()
    assert (cut.splits["train"].tokens < cut.splits["train"].full_lengths).any()
    assert whole.splits["train"].tokens.tolist() == whole.splits["train"].full_lengths.tolist()


def test_second_call_reads_the_cache_and_workers_open_it(tmp_path, tokenizer):
    make_questions(tmp_path / "train.json", 12, seed=5)
    first, second = prepare_in(tmp_path, tokenizer), prepare_in(tmp_path, tokenizer)
    opened = open_prepared(first.folder)
    assert not first.report.cached and second.report.cached
    assert first.fingerprint == second.fingerprint == opened.fingerprint
    assert opened.splits["train"].is_chunked


def test_spaces_around_punctuation_are_closed_up_as_in_the_release():
    assert (
        closed_up(" A man ( born 1900 ) , who 's  known .\tReally ? Yes ! ")
        == "A man (born 1900), who's known. Really? Yes!"
    )


GOOD = {
    "id": "q",
    "query": "asked w1",
    "answer": "w2",
    "candidates": ["w2", "w3"],
    "supports": ["w4 w5"],
}
FAULTS = [
    *(
        (({key: None} | {"-": key}), f"no key '{key}'; add it")
        for key in ("query", "answer", "candidates", "supports")
    ),
    (
        {"answer": "w9"},
        "the answer 'w9' is not among the 2 candidates; make the answer one of the candidates",
    ),
    ({"candidates": ["w2"]}, "1 candidates, 0 of them empty and 0 repeated; give at least two"),
    (
        {"candidates": ["w2", "w3", "w2"]},
        "3 candidates, 0 of them empty and 1 repeated; give at least two",
    ),
    ({"candidates": ["w2", " "]}, "2 candidates, 1 of them empty and 0 repeated"),
    ({"candidates": "w2 w3"}, "'candidates' is no list of texts; give texts"),
    ({"supports": []}, "0 supports, 0 of them empty; give at least one support"),
    ({"supports": ["w4", ""]}, "2 supports, 1 of them empty"),
    ({"supports": [7]}, "'supports' is no list of texts"),
    ({"query": " "}, "'query' is empty; delete the row"),
    ({"query": 3}, "'query' holds int, not text; give texts"),
    ({"supports": ["\ud800"]}, "a text holds half a character"),
    (
        {"candidates": ["w2", "w3 " * 40]},
        "question and candidates take 50 of data.max_tokens 40.*raise data.max_tokens",
    ),
    ({"id": "WH_train_0"}, "id 'WH_train_0' is also in row 1; make the id unique"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_a_question_that_cannot_be_used_is_named_with_file_row_and_fix_or_dropped(
    change, message, tmp_path, tokenizer
):
    records = make_questions(tmp_path / "train.json", 12, seed=5)
    bad = {
        key: value for key, value in (GOOD | change).items() if key not in ("-", change.get("-"))
    }
    (tmp_path / "train.json").write_text(json.dumps([*records, bad]))
    with pytest.raises(DataError, match=rf"train.json row 13: {message}"):
        prepare_in(tmp_path, tokenizer)
    prepared = prepare_in(tmp_path, tokenizer, on_invalid="drop")
    assert sum(len(split) for split in prepared.splits.values()) == 12
    assert sum(prepared.report.dropped.values()) == 1


def test_a_question_in_two_splits_is_a_problem_and_the_copy_in_test_stays(tmp_path, tokenizer):
    records = make_questions(tmp_path / "train.json", 12, seed=5)
    make_questions(tmp_path / "validation.json", 4, seed=6)
    (tmp_path / "test.json").write_text(json.dumps([records[3] | {"id": "another"}]))
    with pytest.raises(
        DataError, match=r"train.json row 4: same text as .*test.json row 1 \(that copy is kept\)"
    ):
        prepare_in(tmp_path, tokenizer, files=("train", "validation", "test"))
    prepared = prepare_in(
        tmp_path, tokenizer, files=("train", "validation", "test"), on_invalid="drop"
    )
    assert "WH_train_3" not in prepared.splits["train"].ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "holds dict, expected one list"),
        ("[1,", "not readable as JSON"),
        ("[]", "no valid document left for train"),
    ],
)
def test_a_file_that_is_no_list_of_questions_is_refused(content, message, tmp_path, tokenizer):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError, match=message):
        prepare_in(tmp_path, tokenizer)


def test_rows_that_are_no_objects_missing_files_and_other_endings_are_named(tmp_path, tokenizer):
    records = make_questions(tmp_path / "train.json", 12, seed=5)
    (tmp_path / "train.json").write_text(json.dumps([*records, "text"]))
    with pytest.raises(DataError, match="row 13: expected a JSON object, got str"):
        prepare_in(tmp_path, tokenizer)
    with pytest.raises(DataError, match=r"data.qangaroo.validation: no file"):
        prepare_in(tmp_path, tokenizer, files=("train", "validation"))
    config = DataConfig.model_validate_json(
        json.dumps({"qangaroo": {"train": str(tmp_path / "train.csv")}})
    )
    (tmp_path / "train.csv").write_text("")
    with pytest.raises(DataError, match=r"expected a name ending in .json or .json.gz"):
        prepare(config, tokenizer, tokenizer_id="toy", cache_path=tmp_path / "cache")


def test_compressed_files_are_read(tmp_path, tokenizer):
    records = make_questions(tmp_path / "plain.json", 12, seed=5)
    with gzip.open(tmp_path / "train.json.gz", "wt") as file:
        json.dump([record | {"annotations": []} for record in records], file)
    config = DataConfig.model_validate_json(
        json.dumps({"qangaroo": {"train": str(tmp_path / "train.json.gz")}, "max_tokens": 40})
    )
    prepared = prepare(config, tokenizer, tokenizer_id="toy", cache_path=tmp_path / "cache")
    assert sum(len(split) for split in prepared.splits.values()) == 12


def test_a_tokenizer_without_a_separator_is_refused(tmp_path, any_tokenizer):
    make_questions(tmp_path / "train.json", 12, seed=5)
    with pytest.raises(ConfigError, match="neither cls_token_id nor bos_token_id"):
        prepare_in(tmp_path, any_tokenizer)
