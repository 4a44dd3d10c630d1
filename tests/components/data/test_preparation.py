import json
import multiprocessing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.data import open_prepared, preparation
from components.data.settings import DataConfig
from components.errors import DataError
from components.tasks import prepare

ALPHABET = "abcdefghij"


def write_documents(path, count=40):
    rows = [
        {
            "id": f"d{n}",
            "text": " ".join(ALPHABET[n * k % 10] for k in range(1, 3 + n)),
            "label": n % 3,
        }
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {row["id"]: row for row in rows}


def config_of(path, **settings):
    return DataConfig.model_validate_json(
        json.dumps({"files": {"train": str(path)}, "max_tokens": 20, **settings})
    )


def prepare_in(folder, tokenizer, **settings):
    return prepare(
        config_of(folder / "train.jsonl", **settings),
        tokenizer,
        tokenizer_id="letters",
        cache_path=folder / "cache",
    )


def test_the_cache_holds_every_document_as_the_tokenizer_gives_it(tmp_path, any_tokenizer):
    rows = write_documents(tmp_path / "train.jsonl")
    prepared = prepare_in(tmp_path, any_tokenizer)
    assert prepared.labels == ("0", "1", "2")
    seen = []
    for split in prepared.splits.values():
        assert split.lengths.dtype == np.int32
        assert split.label_ids.dtype == np.int64
        for index, document_id in enumerate(split.ids):
            expected = any_tokenizer(rows[document_id]["text"], truncation=True, max_length=20)[
                "input_ids"
            ]
            assert split.input_ids(index).tolist() == expected
            assert split.lengths[index] == len(expected)
            assert split.label_ids[index] == rows[document_id]["label"]
            seen.append(document_id)
    assert sorted(seen) == sorted(rows)


def test_documents_of_several_record_batches_are_found_by_index(tmp_path, bert_like, monkeypatch):
    monkeypatch.setattr("components.data.tokenization.CHARACTERS_PER_CALL", 50)
    write_documents(tmp_path / "train.jsonl")
    split = prepare_in(tmp_path, bert_like).splits["train"]
    assert split.table["input_ids"].num_chunks > 3
    assert [len(split.input_ids(index)) for index in range(len(split))] == split.lengths.tolist()


def test_the_report_counts_what_was_cut_dropped_and_repeated(tmp_path, bert_like):
    long, short = "a " * 98, "b"
    texts = [long, short, short, ""] + [f"c {' d' * n}" for n in range(40)]
    lines = [
        json.dumps({"text": text, "label": "xy"[n % 2]}) + "\n" for n, text in enumerate(texts)
    ]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match=r"train\.jsonl row 4"):
        prepare_in(tmp_path, bert_like)
    report = prepare_in(tmp_path, bert_like, on_invalid="drop").report
    assert report.dropped == {"empty_text": 1}
    assert "row 4" in report.first_dropped[0]
    assert sum(split.documents for split in report.splits.values()) == 43
    assert sum(split.repeated for split in report.splits.values()) == 1
    full = [len(text.split()) + 2 for text in texts if text]
    assert sum(split.truncated for split in report.splits.values()) == sum(
        length > 20 for length in full
    )
    assert sum(split.tokens for split in report.splits.values()) == sum(
        min(length, 20) for length in full
    )
    cut = sum(
        round(split.tokens / (1 - split.share_of_tokens_cut)) for split in report.splits.values()
    )
    assert cut == sum(full)


def test_a_second_call_reads_nothing_and_gives_the_same(tmp_path, bert_like, monkeypatch):
    write_documents(tmp_path / "train.jsonl")
    first = prepare_in(tmp_path, bert_like)
    monkeypatch.setattr(preparation, "_make", None)
    second = prepare_in(tmp_path, bert_like)
    assert (first.report.cached, second.report.cached) == (False, True)
    assert second.fingerprint == first.fingerprint
    assert second.report.splits == first.report.splits
    opened = open_prepared(first.folder)
    assert opened.labels == first.labels
    assert all(
        opened.splits[name].table.equals(split.table) for name, split in first.splits.items()
    )


def test_the_fingerprint_is_of_the_content_not_of_the_place(tmp_path, bert_like):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_documents(tmp_path / "a" / "train.jsonl")
    write_documents(tmp_path / "b" / "train.jsonl")
    first = prepare_in(tmp_path / "a", bert_like)
    assert prepare_in(tmp_path / "b", bert_like).fingerprint == first.fingerprint
    assert prepare_in(tmp_path / "a", bert_like, max_tokens=21).fingerprint != first.fingerprint
    assert prepare_in(tmp_path / "a", bert_like, split_seed=11).fingerprint != first.fingerprint
    path = tmp_path / "b" / "train.jsonl"
    path.write_text(path.read_text().replace('"a a', '"b a', 1))
    assert prepare_in(tmp_path / "b", bert_like).fingerprint != first.fingerprint


def test_an_interrupted_preparation_leaves_nothing_to_be_mistaken_for_data(
    tmp_path, bert_like, monkeypatch
):
    write_documents(tmp_path / "train.jsonl")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_description", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_in(tmp_path, bert_like)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]
    assert not prepare_in(tmp_path, bert_like).report.cached


def test_nothing_to_open_says_what_is_shared_storage(tmp_path):
    with pytest.raises(
        DataError, match=r"no prepared data .*cluster\.cache_path must be shared storage"
    ):
        open_prepared(tmp_path)


def test_the_cache_is_readable_by_datasets(tmp_path, bert_like):
    datasets = pytest.importorskip("datasets")
    write_documents(tmp_path / "train.jsonl")
    prepared = prepare_in(tmp_path, bert_like)
    rows = datasets.Dataset.from_file(str(prepared.folder / "test.arrow"))
    assert rows["id"][:] == prepared.splits["test"].ids


def prepare_at_once(folder, tokenizer, barrier, results):
    barrier.wait()
    prepared = prepare_in(Path(folder), tokenizer)
    results.put((prepared.fingerprint, prepared.report.cached))


@pytest.mark.slow
def test_of_two_processes_that_prepare_at_once_one_makes_and_one_waits(tmp_path, bert_like):
    write_documents(tmp_path / "train.jsonl")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=prepare_at_once, args=(str(tmp_path), bert_like, barrier, results))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    (first, cached), (second, also_cached) = (results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    assert first == second
    assert sorted((cached, also_cached)) == [False, True]


def damage(file, at=0.5):
    """Flip one bit."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * at)] ^= 4
    file.write_bytes(content)


def swap_labels(folder):
    file = folder / "prepared.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"labels": content["labels"][::-1]}, indent=2))


SPOILT = {
    "a bit of the training documents": lambda folder: damage(folder / "train.arrow"),
    "a bit near the end": lambda folder: damage(folder / "test.arrow", at=0.9),
    "an empty split": lambda folder: (folder / "validation.arrow").write_bytes(b""),
    "a missing split": lambda folder: (folder / "train.arrow").unlink(),
    "half a description": lambda folder: (folder / "prepared.json").write_text("{"),
    "an empty description": lambda folder: (folder / "prepared.json").write_text(""),
    "broken checksums": lambda folder: (folder / "checksums.json").write_text("x"),
    "swapped labels": swap_labels,
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_damaged_cache_is_found_out_and_made_anew(tmp_path, bert_like, spoil):
    write_documents(tmp_path / "train.jsonl")
    before = prepare_in(tmp_path, bert_like)
    rows = [split.table.to_pylist() for split in before.splits.values()]
    SPOILT[spoil](before.folder)
    with pytest.raises(DataError, match="are damaged"):
        open_prepared(before.folder)
    with pytest.warns(RuntimeWarning, match="made anew"):
        after = prepare_in(tmp_path, bert_like)
    assert not after.report.cached
    assert (after.fingerprint, after.labels) == (before.fingerprint, before.labels)
    assert [split.table.to_pylist() for split in after.splits.values()] == rows


def without_full_lengths(folder):
    """As caches were before they kept full lengths."""
    for file in folder.glob("*.arrow"):
        with pa.ipc.open_stream(file.read_bytes()) as stream:
            batches = [batch.drop_columns(["full_length"]) for batch in stream]
        with pa.ipc.new_stream(str(file), batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    (folder / "checksums.json").unlink()


def test_full_lengths_are_those_before_the_cut(tmp_path, any_tokenizer):
    rows = write_documents(tmp_path / "train.jsonl")
    for split in prepare_in(tmp_path, any_tokenizer).splits.values():
        full = [len(any_tokenizer(rows[name]["text"])["input_ids"]) for name in split.ids]
        assert split.full_lengths.tolist() == full
        assert split.tokens.tolist() == [min(length, 20) for length in full]


def test_a_cache_of_before_full_lengths_were_kept_is_made_anew_with_the_same_fingerprint(
    tmp_path, bert_like, recwarn
):
    write_documents(tmp_path / "train.jsonl")
    made = prepare_in(tmp_path, bert_like)
    without_full_lengths(made.folder)
    with pytest.raises(DataError, match="an earlier version"):
        open_prepared(made.folder)
    again = prepare_in(tmp_path, bert_like)
    assert not again.report.cached and again.folder == made.folder
    assert again.fingerprint == made.fingerprint
    assert again.splits["test"].full_lengths.max() > 20
    assert prepare_in(tmp_path, bert_like).report.cached
    assert not [each for each in recwarn if issubclass(each.category, RuntimeWarning)]


def test_a_cache_from_before_there_were_checksums_is_read(tmp_path, bert_like):
    write_documents(tmp_path / "train.jsonl")
    made = prepare_in(tmp_path, bert_like)
    (made.folder / "checksums.json").unlink()
    assert prepare_in(tmp_path, bert_like).report.cached
    (made.folder / "train.arrow").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="made anew"):
        assert not prepare_in(tmp_path, bert_like).report.cached
