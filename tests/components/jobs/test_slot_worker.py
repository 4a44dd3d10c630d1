"""What a slot's workers do around jobs, with a slot and trainings that the test plays itself."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.errors import ClusterError
from components.jobs import slot_worker
from components.jobs.event_log import event_log
from components.jobs.job import Assignment
from components.jobs.slot_worker import check_storage, serve_side_by_side
from tests.components.jobs.test_run_jobs import job
from tests.components.jobs.test_slot import SETTINGS


def test_a_node_without_the_driver_s_folder_is_named(tmp_path: Path) -> None:
    check_storage(tmp_path)
    with pytest.raises(
        ClusterError, match=r"^cluster\.storage_path: node \S+ does not see '.*gone'"
    ):
        check_storage(tmp_path / "gone")


class Told:
    """A slot that gives `jobs` one after the other (None: nothing now) and then closes; notes
    whether it was asked to wait.
    """

    def __init__(self, jobs: list[Assignment | None]) -> None:
        self.jobs, self.waited = jobs, list[bool]()
        self.take = SimpleNamespace(remote=self._take)

    def _take(self, *, wait: bool) -> tuple[bool, Assignment | None]:
        self.waited.append(wait)
        return (True, self.jobs.pop(0)) if self.jobs else (False, None)


def served(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    slot: Told,
    rounds: dict[str, int],
    *,
    capacity: int,
) -> list[tuple[str, ...]]:
    """The jobs that were at work in each round; a job lasts `rounds` of them."""
    import ray
    import torch

    from components.training import side_by_side

    at_work: list[list[str]] = []

    def steps(settings: Any, session: Any, of: Any, outbox: Any) -> Generator[Any, None, None]:
        for _ in range(rounds[of.id]):
            # Of a course of its own, it waits for nobody.
            yield SimpleNamespace(job=of.id, course=(of.id,), place=(0, 1, 0))

    def answered(asked: list[Any]) -> list[None]:
        if asked:
            at_work.append([each.job for each in asked])
        return [None] * len(asked)

    monkeypatch.setattr(ray, "get", lambda value: value)
    monkeypatch.setattr(slot_worker, "_steps", steps)
    monkeypatch.setattr(side_by_side, "answered", answered)
    world = SimpleNamespace(is_main=True, device=torch.device("cpu"), broadcast=lambda value: value)
    session: Any = SimpleNamespace(world=world)
    given: Any = slot
    settings = replace(SETTINGS, capacity=capacity)
    serve_side_by_side(settings, given, session, event_log(folder, "rank0", experiment="x"))
    return [tuple(each) for each in at_work]


def test_workers_take_a_job_while_others_are_at_work_and_as_soon_as_one_has_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slot = Told([Assignment(job(name)) for name in "abc"])
    lasting = {"a": 2, "b": 4, "c": 2}
    found = served(monkeypatch, tmp_path, slot, lasting, capacity=2)
    assert found == [("a",), ("a", "b"), ("b", "c"), ("b", "c"), ("b",)]
    # Only where nothing else is to do.
    assert slot.waited[0] and slot.waited[-1] and not any(slot.waited[1:-1])


def test_workers_of_one_place_carry_out_one_job_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slot = Told([Assignment(job("a")), None, Assignment(job("b"))])
    found = served(monkeypatch, tmp_path, slot, {"a": 2, "b": 1}, capacity=1)
    assert found == [("a",), ("a",), ("b",)]
    assert slot.waited == [True] * 4


def test_workers_that_are_to_leave_end_what_they_have_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slot = Told([Assignment(job("a"))])
    assert served(monkeypatch, tmp_path, slot, {"a": 3}, capacity=4) == [("a",)] * 3
