"""Tokenising and batching documents: components.data against what a user would write with
`datasets.map` and a padding collator.

Both sides read the same files, tokenise with the same fast tokenizer on all cores, drop documents
without text, and make one epoch of padded batches per repeat. The peer sorts nothing
(`shuffle=True`) or, as its best, groups by length as transformers' Trainer can. What we do besides,
validation of every row included, is in our time. The token ids of every document must be equal on
both sides.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.backbones.settings import BackboneConfig
from components.data.settings import DataConfig
from pipelines.research.benchmark import BenchmarkOptions
from pipelines.research.benchmark.workload import backbone_values, write_documents

MAX_TOKENS = 4096
MICRO_BATCH_SIZE, TRAIN_BATCH_SIZE = 8, 32
SUFFIXES = (".jsonl", ".jsonl.gz")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """Files of documents by split."""

    name: str
    files: Mapping[str, str]

    def config(self) -> DataConfig:
        values = {"files": dict(self.files), "max_tokens": MAX_TOKENS, "on_invalid": "drop"}
        return DataConfig.model_validate(values)


def corpora(data: Path | None, folder: Path) -> list[Corpus]:
    """The data sets below `data` that have training files; a generated one where none is there."""
    found = []
    for place in sorted(data.iterdir()) if data else []:
        files = {
            split: str(file)
            for split in ("train", "validation", "test")
            for suffix in SUFFIXES
            if (file := place / f"{split}{suffix}").is_file()
        }
        if "train" in files and place.name in ("newsgroups20", "hyperpartisan"):
            found.append(Corpus(place.name, files))
    if found:
        return found
    files = {}
    for seed, (split, count) in enumerate({"train": 3000, "validation": 300, "test": 300}.items()):
        files[split] = str(folder / f"{split}.jsonl")
        write_documents(Path(files[split]), count, seed=seed, words=(20, 1500))
    return [Corpus("generated", files)]


def run(options: BenchmarkOptions, say: Say) -> list[dict[str, Any]]:
    """One case per corpus; medians over 3 repeats (`quick`: 1) with a fresh cache each."""
    repeats = 1 if options.quick else 3
    cases = []
    with tempfile.TemporaryDirectory(prefix="prefixprop-bench-") as name:
        for corpus in corpora(options.data, Path(name)):
            if options.chosen(corpus.name):
                say(f"{corpus.name}: preparing and batching, {repeats} repeat(s) of either side")
                cases.append(measure_corpus(corpus, Path(name), repeats=repeats))
                say(describe(cases[-1]))
    return cases


def measure_corpus(corpus: Corpus, folder: Path, *, repeats: int) -> dict[str, Any]:
    """Our side and the peer's in turn, `repeats` times."""
    from components.backbones import load_tokenizer

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    tokenizer = load_tokenizer(
        BackboneConfig.model_validate(backbone_values("minilm", folder, max_tokens=MAX_TOKENS))
    )
    tokenizer(["warm up"] * 8)
    ours, theirs = [], []
    for repeat in range(repeats):
        ours.append(_ours(corpus, tokenizer, folder / f"{corpus.name}-ours-{repeat}", epoch=repeat))
        theirs.append(
            _theirs(corpus, tokenizer, folder / f"{corpus.name}-theirs-{repeat}", seed=repeat)
        )
    differing = _differing(ours[0].pop("tokens"), theirs[0].pop("tokens"))
    if differing:
        raise RuntimeError(f"{corpus.name}: {differing} documents were tokenised differently")
    mine, other = (
        _medians(
            [{name: value for name, value in result.items() if name != "tokens"} for result in side]
        )
        for side in (ours, theirs)
    )
    return {
        "case": corpus.name,
        "peer": "datasets.map + DataCollatorWithPadding",
        "work": (
            f"at most {MAX_TOKENS} tokens, micro-batches of {MICRO_BATCH_SIZE}, steps of "
            f"{TRAIN_BATCH_SIZE}"
        ),
        "ours": mine,
        "theirs": other,
        "ratio": mine["prepared_documents_per_second"]["median"]
        / other["prepared_documents_per_second"]["median"],
        "cpu_ratio": other["prepare_cpu_seconds"]["median"] / mine["prepare_cpu_seconds"]["median"],
        "batching_ratio": mine["batched_documents_per_second"]["median"]
        / other["batched_documents_per_second"]["median"],
        "largest_difference": differing,
    }


def describe(case: Mapping[str, Any]) -> str:
    """One line for people."""
    mine, other = case["ours"], case["theirs"]
    return (
        f"{case['case']}: {mine['prepared_documents_per_second']['median']:,.0f} against "
        f"{other['prepared_documents_per_second']['median']:,.0f} documents per second prepared "
        f"(ratio {case['ratio']:.2f}, in processor time {case['cpu_ratio']:.2f}), batching ratio "
        f"{case['batching_ratio']:.1f}, padding {mine['padding_share']['median']:.1%} against "
        f"{other['padding_share']['median']:.1%} shuffled "
        f"and {other['padding_share_grouped']['median']:.1%} grouped by length"
    )


def _ours(corpus: Corpus, tokenizer: Any, cache: Path, *, epoch: int) -> dict[str, Any]:
    from components.data import collate, epoch_steps, padding_share, split_step
    from components.tasks import prepare

    started, cpu_before = time.perf_counter(), time.process_time()
    data = prepare(corpus.config(), tokenizer, tokenizer_id="benchmark", cache_path=cache)
    prepared, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_before
    documents = sum(len(split) for split in data.splits.values())
    started = time.perf_counter()
    prepare(corpus.config(), tokenizer, tokenizer_id="benchmark", cache_path=cache)
    again = time.perf_counter() - started
    train = data.splits["train"]
    started = time.perf_counter()
    batches = []
    for rows in epoch_steps(train.lengths, train_batch_size=TRAIN_BATCH_SIZE, seed=10, epoch=epoch):
        for chosen in split_step(
            rows, train.lengths, world_size=1, micro_batch_size=MICRO_BATCH_SIZE
        )[0]:
            collate(train, chosen, pad_token_id=tokenizer.pad_token_id)
            batches.append(chosen)
    batched = time.perf_counter() - started
    assert sorted(np.concatenate(batches)) == list(range(len(train))), (
        "every document once per epoch"
    )
    return {
        "prepared_documents_per_second": documents / prepared,
        "prepare_cpu_seconds": cpu_seconds,
        "prepare_again_seconds": again,
        "batched_documents_per_second": len(train) / batched,
        "padding_share": padding_share(batches, train.lengths),
        "tokens": {train.ids[index]: train.input_ids(index) for index in range(len(train))},
    }


def _theirs(corpus: Corpus, tokenizer: Any, cache: Path, *, seed: int) -> dict[str, Any]:
    import datasets

    datasets.disable_progress_bars()

    def prepared() -> Any:
        raw = datasets.load_dataset("json", data_files=dict(corpus.files), cache_dir=str(cache))
        labels = sorted(set(raw["train"]["label"]), key=str)
        raw = raw.filter(
            lambda texts: [bool(text.strip()) for text in texts], input_columns="text", batched=True
        )

        def tokenise(rows: dict[str, list[Any]]) -> dict[str, Any]:
            tokens = tokenizer(
                rows["text"], truncation=True, max_length=MAX_TOKENS, return_token_type_ids=False
            )
            return {**tokens, "labels": [labels.index(label) for label in rows["label"]]}

        return raw.map(
            tokenise,
            batched=True,
            remove_columns=[name for name in raw["train"].column_names if name != "id"],
        )

    started, cpu_before = time.perf_counter(), time.process_time()
    data = prepared()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_before
    started = time.perf_counter()
    prepared()
    again = time.perf_counter() - started
    train = data["train"].remove_columns("id")
    batches = _batches(train, tokenizer, seed=seed)
    ids, tokens = data["train"]["id"], train["input_ids"]
    return {
        "prepared_documents_per_second": sum(len(split) for split in data.values()) / seconds,
        "prepare_cpu_seconds": cpu_seconds,
        "prepare_again_seconds": again,
        **batches,
        "tokens": {
            str(name): np.asarray(row, dtype=np.int32)
            for name, row in zip(ids, tokens, strict=True)
        },
    }


def _batches(train: Any, tokenizer: Any, *, seed: int) -> dict[str, float]:
    """Documents per second through a DataLoader, and the share of padding in its batches: shuffled
    and grouped by length.
    """
    import torch
    from transformers import DataCollatorWithPadding
    from transformers.trainer_pt_utils import LengthGroupedSampler

    loader = torch.utils.data.DataLoader
    collator, random = DataCollatorWithPadding(tokenizer), torch.Generator().manual_seed(seed)
    settings: dict[str, Any] = {"batch_size": MICRO_BATCH_SIZE, "collate_fn": collator}
    started = time.perf_counter()
    shuffled = list(_padding(loader(train, shuffle=True, generator=random, **settings)))
    seconds = time.perf_counter() - started
    lengths = [len(tokens) for tokens in train["input_ids"]]
    by_length = LengthGroupedSampler(MICRO_BATCH_SIZE, lengths=lengths, generator=random)
    grouped = list(_padding(loader(train, sampler=by_length, **settings)))
    return {
        "batched_documents_per_second": len(train) / seconds,
        "padding_share": _share(shuffled),
        "padding_share_grouped": _share(grouped),
    }


def _padding(loader: Any) -> Iterator[tuple[int, int]]:
    """Padding tokens and all tokens of every batch."""
    for batch in loader:
        mask = batch["attention_mask"]
        yield int((mask == 0).sum()), mask.numel()


def _share(counts: list[tuple[int, int]]) -> float:
    return sum(padding for padding, _ in counts) / sum(total for _, total in counts)


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> int:
    """Documents that both sides trained on and that have other tokens. Documents that only one side
    has (we drop repeated ones, and carve a test split where there is none) are left out.
    """
    common = set(ours) & set(theirs)
    assert len(common) > 0.5 * max(len(ours), len(theirs)), "the two sides read different documents"
    return sum(not np.array_equal(ours[name], theirs[name]) for name in common)


def _medians(results: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name in results[0]
        for values in [[result[name] for result in results]]
    }
