"""Where memory does not suffice, micro-batches are halved and steps stay; what sufficed is
remembered for what is as large.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.config import TrainConfig, validate
from components.jobs.events import Event, Failed
from components.jobs.job import Job
from components.jobs.run_jobs import run_one
from components.jobs.smaller_batches import fitting, is_out_of_memory, smaller
from components.jobs.worker_group import failure_of
from tests.components.jobs.test_run_jobs import Scripted, trained

VALUES: dict[str, Any] = {
    "backbone": {"name_or_path": "x", "family": "longformer"},
    "data": {"files": {"train": "a.jsonl"}},
    "training": {"micro_batch_size": 12, "gradient_accumulation_steps": 2},
}


def job(folder: Path, name: str = "a", **changes: Any) -> Job:
    config = validate(TrainConfig, VALUES | changes)
    return Job(name, config, folder / "data", folder / "trials" / name)


def sizes(job: Job) -> tuple[int, int, int | None]:
    training = job.cut.training
    return (
        training.micro_batch_size,
        training.gradient_accumulation_steps,
        training.tokens_per_batch,
    )


def test_a_step_keeps_its_documents_down_to_one_in_a_micro_batch(tmp_path: Path) -> None:
    found, seen = job(tmp_path), []
    while (cut := smaller(found)) is not None:
        found = cut
        seen.append(sizes(found))
    assert seen == [(6, 4, None), (3, 8, None), (1, 24, None)]
    assert found.config == job(tmp_path).config  # what it is told from others by


def test_a_budget_of_tokens_is_halved_too(tmp_path: Path) -> None:
    training = {"micro_batch_size": 5, "tokens_per_batch": 4096}
    cut = smaller(job(tmp_path, training=training))
    assert cut is not None and sizes(cut) == (1, 5, 2048)


def test_it_is_remembered_for_what_is_as_large_and_for_nothing_else(tmp_path: Path) -> None:
    first = job(tmp_path)
    assert fitting(first) == first
    smaller(first)
    other_rate = job(tmp_path, "b", optimizer={"learning_rate": 0.5}, seed=3)
    assert sizes(fitting(other_rate)) == (6, 4, None)
    for change in (
        {"adapter": {"method": "prefix_propagation", "prefix_length": 99}},
        {"data": {"files": {"train": "a.jsonl"}, "max_tokens": 99}},
        {"training": VALUES["training"] | {"gradient_checkpointing": True}},
    ):
        assert fitting(job(tmp_path, "c", **change)).training is None
    smaller_already = job(tmp_path, "d", training={"micro_batch_size": 2})
    assert sizes(fitting(smaller_already)) == (2, 1, None)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": 1}'])
def test_a_damaged_memory_is_found_out_again(tmp_path: Path, text: str) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "micro_batches.json").write_text(text)
    assert fitting(job(tmp_path)) == job(tmp_path)
    smaller(job(tmp_path))
    assert sizes(fitting(job(tmp_path))) == (6, 4, None)


def out_of_memory(name: str) -> Failed:
    return Failed(name, "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "memory")


def test_a_job_is_repeated_smaller_and_the_next_one_starts_there(tmp_path: Path) -> None:
    def becomes(given: Job, _: int) -> list[Event]:
        fits = given.cut.training.micro_batch_size <= 3
        return [trained(given.id) if fits else out_of_memory(given.id)]

    workers = Scripted(becomes)
    for name in "ab":
        result = run_one(workers, job(tmp_path, name))
        assert result.outcome == "completed" and result.job == job(tmp_path, name)
    assert [(each.id, each.cut.training.micro_batch_size) for each in workers.started] == [
        ("a", 12),
        ("a", 6),
        ("a", 3),
        ("b", 3),
    ]


def test_a_single_document_that_does_not_fit_is_infeasible(tmp_path: Path) -> None:
    workers = Scripted(lambda given, _: [out_of_memory(given.id)])
    result = run_one(workers, job(tmp_path), max_failures=5)
    assert result.outcome == "infeasible"
    assert "a single document does not fit" in result.reason and "2 GiB" in result.reason
    assert [each.cut.training.micro_batch_size for each in workers.started] == [12, 6, 3, 1]


def test_who_says_out_of_memory_is_understood() -> None:
    import torch

    said = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
    ]
    assert all(is_out_of_memory(error) for error in said)
    assert [failure_of(error)[1] for error in said] == ["memory"] * len(said)
    assert failure_of(ValueError("out of range"))[1] == "training"


def test_it_explains_what_other_ranks_suffered() -> None:
    from ray.train import WorkerGroupError

    suffered = RuntimeError("Connection closed by peer")
    memory = RuntimeError("CUDA out of memory")
    assert failure_of(WorkerGroupError("", {0: suffered, 1: memory}))[1] == "memory"


def test_the_systems_own_killer_is_a_loss_of_workers() -> None:
    from ray.exceptions import OutOfMemoryError

    assert failure_of(OutOfMemoryError("the node is running low on memory"))[1] == "workers"


def test_what_was_cut_is_the_same_training(tmp_path: Path) -> None:
    from components.training.checkpoint import resume_key

    whole = job(tmp_path)
    cut = smaller(replace(whole))
    assert cut is not None
    keys = {resume_key(each.cut, "documents", world_size=2) for each in (whole, cut)}
    assert len(keys) == 1
