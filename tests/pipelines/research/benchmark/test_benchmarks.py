"""What all benchmarks share: the table, the generated documents, the sampler."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pipelines.research.benchmark import BENCHMARKS, BenchmarkOptions
from pipelines.research.benchmark.data import _share, corpora
from pipelines.research.benchmark.hardware import load_average, versions
from pipelines.research.benchmark.process_tree import TreeSampler, proportional_set_size
from pipelines.research.benchmark.workload import write_documents

TAKES = "x = bytearray(64 * 2**20); import time, sys; print('ready', flush=True); sys.stdin.read()"


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_benchmark_can_be_run(name: str) -> None:
    assert callable(import_module(BENCHMARKS[name]).run)


def test_all_cases_are_chosen_unless_some_are_named() -> None:
    assert BenchmarkOptions().chosen("tiny")
    assert BenchmarkOptions(only=("tiny",)).chosen("tiny") and not BenchmarkOptions(
        only=("tiny",)
    ).chosen("minilm")


def test_generated_documents_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_documents(tmp_path / name / "train.jsonl", 9, seed=3, words=(5, 50))
    one, two = ((tmp_path / name / "train.jsonl").read_bytes() for name in ("one", "two"))
    assert one == two and one.count(b"\n") == 9


def test_generated_corpus_stands_in_where_no_data_are(tmp_path: Path) -> None:
    (corpus,) = corpora(None, tmp_path)
    assert corpus.name == "generated" and all(
        Path(file).is_file() for file in corpus.files.values()
    )
    (tmp_path / "data" / "hyperpartisan").mkdir(parents=True)
    write_documents(tmp_path / "data" / "hyperpartisan" / "train.jsonl", 3, seed=0, words=(5, 9))
    (corpus,) = corpora(tmp_path / "data", tmp_path)
    assert (corpus.name, set(corpus.files)) == ("hyperpartisan", {"train"})


def test_padding_share_weighs_batches_by_their_size() -> None:
    assert _share([(5, 10), (0, 90)]) == 0.05


def test_sampler_sees_the_memory_of_descendants() -> None:
    middle = [
        sys.executable,
        "-c",
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TAKES!r}])",
    ]
    process = subprocess.Popen(middle, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    with TreeSampler(process.pid, interval_seconds=0.05) as tree:
        process.stdout.readline()
        own = proportional_set_size(process.pid)
        while tree.peak_processes < 2 or tree.peak_bytes < own + 60 * 2**20:
            assert process.poll() is None
        process.communicate()
    assert tree.cpu_seconds > 0


def test_memory_of_a_process_that_ended_is_zero() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    assert proportional_set_size(process.pid) == 0


def test_versions_name_what_decides_speed() -> None:
    assert {"python", "torch", "ray", "transformers"} <= set(versions())
    assert load_average() >= 0.0
