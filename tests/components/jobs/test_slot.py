"""A slot's bookkeeping without Ray: room, order, assignments that were given up, workers that
died.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.config.cluster import ClusterConfig
from components.errors import ClusterError, DataError
from components.jobs import slot as slot_module
from components.jobs.cluster import NoRoom
from components.jobs.events import Evaluated, Failed, Left, Trained
from components.jobs.flight_record import read_flight_record
from components.jobs.job import Assignment, SlotSettings
from components.jobs.slot import Slot
from components.jobs.worker_group import failure_of
from components.training.outcomes import Progress, Report
from tests.components.jobs.test_flight_record import word
from tests.components.jobs.test_run_jobs import CONFIG, job

SETTINGS = SlotSettings(CONFIG, ClusterConfig(), Path("cache"), Path("storage"), "", {})
DONE = Trained("a", "completed", "all steps done", Progress(), 1, None)


def evaluated(number: int) -> Evaluated:
    return Evaluated("a", Report(number, number, {}, True, False, trainable_parameters=1))


@pytest.fixture
def on_slot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Run a coroutine function on a fresh slot whose workers the test plays itself."""
    monkeypatch.setattr(Slot, "_keep_workers", lambda self: None)
    monkeypatch.setattr(slot_module, "POLL_SECONDS", 0.01)

    def run(law: Callable[[Slot], Awaitable[None]], *, capacity: int = 1) -> None:
        async def main() -> None:
            settings = replace(SETTINGS, capacity=capacity, storage_path=tmp_path)
            await law(Slot(settings, lambda settings, handle: None))

        asyncio.run(main())

    return run


def test_a_job_goes_through_in_the_order_of_its_events(on_slot: Any) -> None:
    async def law(slot: Slot) -> None:
        given = Assignment(job("a"))
        assert await slot.assign(given)
        assert await slot.take() == (True, given)
        assert await slot.take() == (True, None)  # taken once
        await slot.tell(given.id, 1, evaluated(2))
        await slot.tell(given.id, 2, DONE)
        assert await slot.next_events(given.id) == []
        await slot.tell(given.id, 0, evaluated(1))
        assert await slot.next_events(given.id) == [evaluated(1), evaluated(2), DONE]
        assert await slot.assign(Assignment(job("b")))  # its room is free again

    on_slot(law)


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_slot_holds_as_many_jobs_as_it_has_capacity(on_slot: Any, capacity: int) -> None:
    async def law(slot: Slot) -> None:
        given = [Assignment(job(str(number))) for number in range(capacity)]
        for each in given:
            assert await slot.assign(each)
        assert not await slot.assign(Assignment(job("one too many")))
        assert [(await slot.take())[1] for _ in given] == given
        last = given[-1]
        await slot.tell(last.id, 0, replace(DONE, job_id=last.job.id))
        assert await slot.next_events(last.id) == [replace(DONE, job_id=last.job.id)]
        assert await slot.assign(Assignment(job("now there is room")))

    on_slot(law, capacity=capacity)


def test_workers_at_work_are_given_another_without_waiting(
    on_slot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def law(slot: Slot) -> None:
        monkeypatch.setattr(slot_module, "POLL_SECONDS", 60.0)
        first, second = Assignment(job("a")), Assignment(job("b"))
        assert await slot.assign(first)
        assert await slot.take() == (True, first)
        assert await slot.take(wait=False) == (True, None)
        assert await slot.assign(second)
        assert await slot.take(wait=False) == (True, second)
        assert [each.job for each in await slot.progress()] == ["a", "b"]

    on_slot(law, capacity=2)


def test_a_job_goes_where_fewest_are_before_it_goes_where_there_is_room(on_slot: Any) -> None:
    async def law(slot: Slot) -> None:
        assert await slot.assign(Assignment(job("a")), beside=0)
        assert not await slot.assign(Assignment(job("b")), beside=0)
        assert await slot.assign(Assignment(job("b")), beside=1)
        assert not await slot.assign(Assignment(job("c")), beside=2)  # there is no third place

    on_slot(law, capacity=2)


def test_one_of_several_jobs_may_be_told_to_stop(on_slot: Any) -> None:
    async def law(slot: Slot) -> None:
        given = [Assignment(job(name)) for name in "ab"]
        for each in given:
            await slot.assign(each)
            await slot.take()
        await slot.drop(given[0].id)
        assert [await slot.wanted(each.id) for each in given] == ["stop", "steps"]
        assert await slot.assign(Assignment(job("c"))), "its room is free"

    on_slot(law, capacity=2)


def test_what_an_earlier_assignment_tells_is_not_taken_for_this_one(on_slot: Any) -> None:
    async def law(slot: Slot) -> None:
        first, second = Assignment(job("a")), Assignment(job("a"))
        await slot.assign(first)
        await slot.take()
        await slot.drop(first.id)
        assert await slot.wanted(first.id) == "stop"
        assert await slot.assign(second)
        await slot.tell(first.id, 0, DONE)
        assert await slot.next_events(second.id) == []
        assert await slot.wanted(second.id) == "steps"

    on_slot(law)


def test_room_that_nobody_asks_for_is_given_away_and_the_owner_is_told(
    on_slot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def law(slot: Slot) -> None:
        silent, other = Assignment(job("a")), Assignment(job("b"))
        await slot.assign(silent)
        assert not await slot.assign(other)
        now = time.monotonic()
        monkeypatch.setattr(slot_module.time, "monotonic", lambda: now + 16.0)
        assert await slot.assign(other)
        (told,) = await slot.next_events(silent.id)
        assert isinstance(told, Failed)
        assert told.cause == "workers"
        assert "15 s without a word" in told.reason

    on_slot(law)


def test_workers_that_die_fail_all_that_they_had_once(on_slot: Any) -> None:
    async def law(slot: Slot) -> None:
        given = [Assignment(job(name)) for name in "ab"]
        for each in given:
            await slot.assign(each)
        await slot.take()
        slot._fail(RuntimeError("first\nthe last line"))
        slot._fail(RuntimeError("again"))
        for each in given:
            told = await slot.next_events(each.id)
            assert told == [Failed(each.job.id, "RuntimeError: the last line", "training")]

    on_slot(law, capacity=2)


def test_a_closed_slot_sends_its_workers_home(on_slot: Any) -> None:
    async def law(slot: Slot) -> None:
        await slot.assign(Assignment(job("a")))
        await slot.close()
        assert await slot.take() == (False, None)
        assert await slot.wanted("anything") == "stop"
        assert not await slot.assign(Assignment(job("b")))

    on_slot(law)


def test_workers_that_are_to_leave_are_told_so_and_given_nothing_more(on_slot: Any) -> None:
    async def law(slot: Slot) -> None:
        begun, next_one = Assignment(job("a")), Assignment(job("b"))
        await slot.assign(begun)
        await slot.take()
        assert await slot.wanted(begun.id) == "steps"
        slot.why_leave = "node 1 is about to be taken away"
        assert await slot.wanted(begun.id) == "leave"
        assert await slot.take() == (False, None)
        await slot.tell(begun.id, 0, Left("a", "left its place after step 3 of 9", 3))
        (told,) = await slot.next_events(begun.id)
        assert isinstance(told, Left)
        assert await slot.assign(next_one), "the next workers have room for another"
        slot.why_leave = ""
        assert await slot.take() == (True, next_one)

    on_slot(law)


def test_of_what_failed_or_diverged_the_last_steps_are_written_down(
    on_slot: Any, tmp_path: Path
) -> None:
    async def law(slot: Slot) -> None:
        diverged, failed = (
            Assignment(replace(job(name), folder=tmp_path / name)) for name in ("a", "b")
        )
        for each in (diverged, failed):
            await slot.assign(each)
            await slot.take()
            await slot.word(word(each.job, [1, 2]))
            if each is diverged:
                await slot.tell(each.id, 0, replace(DONE, outcome="diverged", reason="no number"))
        slot._keep_flight(ZeroDivisionError("x"))
        kept = {name: read_flight_record(tmp_path / name) for name in ("a", "b")}
        assert kept["a"]["reason"] == "no number" and kept["b"]["cause"] == "training"
        assert all(len(each["ranks"]["0"]["steps"]) == 2 for each in kept.values())

    on_slot(law, capacity=2)


def test_how_far_it_is_is_told_of_the_job_at_hand(on_slot: Any, tmp_path: Path) -> None:
    async def law(slot: Slot) -> None:
        given = Assignment(replace(job("a"), folder=tmp_path))
        (idle,) = await slot.progress()
        assert idle.job == ""
        await slot.assign(given)
        await slot.take()
        await slot.workers_placed(2)
        (before,) = await slot.progress()
        assert (before.job, before.ranks, before.step) == ("a", 2, 0)
        await slot.word(word(given.job, [1, 3]))
        (after,) = await slot.progress()
        assert (after.step, after.last_step_at, after.steps_per_second) == (3, 3.0, 0.5)

    on_slot(law)


def test_what_is_to_be_blamed_is_told() -> None:
    from ray.exceptions import ActorDiedError

    wrapped = RuntimeError("outside")
    wrapped.__cause__ = DataError("row 3")
    assert failure_of(wrapped) == ("DataError: row 3", "input")
    assert failure_of(ClusterError("no room"))[1] == "input"
    assert failure_of(ZeroDivisionError("x")) == ("ZeroDivisionError: x", "training")
    assert failure_of(ActorDiedError())[1] == "workers"
    assert failure_of(NoRoom("none for 3 s"))[1] == "workers"
    assert failure_of(OSError(28, "No space left on device"))[1] == "workers"


def test_workers_that_never_come_to_serve_are_told_and_not_waited_for(on_slot: Any) -> None:
    refused = RuntimeError("Gloo connectFullMesh failed: Connection refused, remote=[127.0.0.1]")

    async def law(slot: Slot) -> None:
        slot._fail(refused)
        assert await slot.placement() == (False, "")  # a node may have died meanwhile
        slot._fail(refused)
        placed, why_not = await slot.placement()
        assert not placed and "could not start, 2 times in a row: RuntimeError: Gloo" in why_not

    async def served_once(slot: Slot) -> None:
        await slot.workers_placed(1)
        for _ in range(3):
            slot._fail(refused)
        assert await slot.placement() == (True, "")

    on_slot(law)
    on_slot(served_once)


def test_of_several_ranks_errors_the_one_that_explains_the_others_is_told() -> None:
    from ray.exceptions import ActorDiedError
    from ray.train import WorkerGroupError

    suffered = RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:1234")
    for explains, cause in (
        (DataError("row 3"), "input"),
        (ActorDiedError(), "workers"),
        (ZeroDivisionError("x"), "training"),
    ):
        for failures in ({0: suffered, 1: explains}, {0: explains, 1: suffered}):
            told, blamed = failure_of(WorkerGroupError("two ranks ended", failures))
            assert blamed == cause and told.startswith(type(explains).__name__)
    assert failure_of(WorkerGroupError("one rank ended", {0: suffered}))[1] == "workers"


def test_a_slot_needs_no_torch() -> None:
    """Tune's actors and slots start in the time that Ray itself needs."""
    import subprocess

    code = (
        "import sys, components.jobs.slots, components.tuning.tune_trial\n"
        "assert not {'torch', 'transformers', 'deepspeed', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
