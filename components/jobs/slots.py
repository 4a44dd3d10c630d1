"""Slots on a Ray cluster as workers, seen by whoever has jobs: the driver, or one of Tune's
actors.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError

from components.config.cluster import ClusterConfig
from components.errors import ClusterError
from components.jobs.cluster import NoRoom, lacks_room, no_room
from components.jobs.events import Event, Failed, ends
from components.jobs.job import Assignment, Job, SlotSettings
from components.jobs.slot import RunWorkers, Slot
from components.jobs.worker_group import run_worker_group

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

SLOT_LOST = "the slot's actor died"
POLL_SECONDS = 0.05


class RaySlots:
    """See Workers. A job goes to any slot that has room; several of these may share the slots.

    A slot whose process died is started again by Ray, which says ActorUnavailableError meanwhile;
    any other RayActorError means that it is gone for good.
    """

    def __init__(self, slots: "tuple[ActorHandle, ...]", *, timeout_seconds: float) -> None:
        self.slots, self.timeout_seconds = list(slots), timeout_seconds
        self._places: dict[ActorHandle, int] = {}
        self._given: dict[str, tuple[Assignment, ActorHandle]] = {}
        self._asked: dict[str, ObjectRef] = {}

    @property
    def capacity(self) -> int:
        self._know_places()
        # One that is started again has one place at least when it is back.
        return sum(self._places.get(slot, 1) for slot in self.slots)

    def _know_places(self) -> None:
        for slot in tuple(self.slots):
            if slot not in self._places:
                try:
                    self._places[slot] = ray.get(slot.capacity.remote())
                except ActorUnavailableError:
                    continue
                except RayActorError:
                    self._lose(slot)

    def _lose(self, slot: "ActorHandle") -> None:
        """Ask nothing more of a slot that is gone. Raises ClusterError where none is left."""
        if slot in self.slots:
            self.slots.remove(slot)
        if not self.slots:
            raise ClusterError("All trial slots are lost: their actors died and did not come back.")

    def start(self, job: Job) -> None:
        """Give the job to a slot, waiting for room up to `timeout_seconds`. Raises ClusterError
        where none came free, or all slots are lost.
        """
        assignment, deadline = Assignment(job), time.monotonic() + self.timeout_seconds
        while True:
            slot = self._taken_by(assignment)
            if slot is not None:
                self._given[job.id] = (assignment, slot)
                self._asked.pop(job.id, None)
                return
            if time.monotonic() > deadline:
                raise ClusterError(
                    "No trial slot became free within cluster.placement_timeout_seconds "
                    f"({self.timeout_seconds:g} s)."
                )
            time.sleep(POLL_SECONDS)

    def _taken_by(self, assignment: Assignment) -> "ActorHandle | None":
        """The first of the slots with fewest jobs: those in one slot share its time."""
        self._know_places()
        for beside in range(max(self._places.values(), default=1)):
            for slot in tuple(self.slots):
                try:
                    if ray.get(slot.assign.remote(assignment, beside)):
                        return slot
                except ActorUnavailableError:
                    continue
                except RayActorError:
                    self._lose(slot)
        return None

    def deliver(self, handle: Callable[[Event], None]) -> None:
        for job_id, (assignment, slot) in self._given.items():
            if job_id not in self._asked:
                self._asked[job_id] = slot.next_events.remote(assignment.id)
        if not self._asked:
            return
        ready, _ = ray.wait(list(self._asked.values()), num_returns=1, timeout=1.0)
        for job_id in [job_id for job_id, asked in self._asked.items() if asked in ready]:
            asked = self._asked.pop(job_id, None)
            for event in self._fetched(job_id, asked) if asked is not None else ():
                handle(event)

    def _fetched(self, job_id: str, asked: "ObjectRef") -> list[Event]:
        assignment, _ = self._given[job_id]
        try:
            events: list[Event] = ray.get(asked)
        except RayActorError:
            # Whether it comes back is found out by the next job.
            events = [Failed(job_id, SLOT_LOST, "workers")]
        # A slot that forgot the assignment does not know whose it was.
        events = [event if event.job_id else replace(event, job_id=job_id) for event in events]
        if any(ends(event, assignment.job) for event in events):
            del self._given[job_id]
        return events

    def drop(self, job_id: str) -> None:
        given = self._given.pop(job_id, None)
        self._asked.pop(job_id, None)
        if given is not None:
            assignment, slot = given
            with suppress(RayActorError):
                ray.get(slot.drop.remote(assignment.id))


def start_slots(
    settings: SlotSettings, count: int, *, run_workers: RunWorkers = run_worker_group
) -> "tuple[ActorHandle, ...]":
    """Start slots; their workers load the backbone while the caller goes on. A slot whose process
    dies is started again. Slots are where the caller is, without whom they end: a node that goes
    takes workers with it and no slot.
    """
    # Whoever asks for a job's events waits there, and so does rank 0.
    calls = 64 + 2 * settings.capacity
    actor = ray.remote(
        num_cpus=0, max_concurrency=calls, max_restarts=-1, label_selector=this_node()
    )(Slot)
    return tuple(actor.remote(settings, run_workers) for _ in range(count))


def this_node() -> dict[str, str]:
    """Labels by which Ray places something where the caller is: an affinity that is soft is lost on
    a node that has just joined and is asked to place it.
    """
    return {ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}


def wait_until_placed(
    slots: "tuple[ActorHandle, ...]", cluster: ClusterConfig | None = None
) -> None:
    """Return when the workers of all slots have started (they load the backbone then). Raises
    ClusterError where the cluster had no room for them for `cluster.placement_timeout_seconds`:
    told by the slots, and here, where the room is counted of which Ray's processes know nothing
    while they start.
    """
    waiting, had_room = list(slots), time.monotonic()
    while waiting:
        waiting = [slot for slot in waiting if not _placed(slot)]
        now = time.monotonic()
        if not waiting or cluster is None or not lacks_room(cluster, slots=len(slots)):
            had_room = now
        elif now - had_room > cluster.placement_timeout_seconds:
            raise NoRoom(no_room(cluster))
        if waiting:
            time.sleep(0.25)


def _placed(slot: "ActorHandle") -> bool:
    try:
        placed, why_not = ray.get(slot.placement.remote())
    except ActorUnavailableError:
        return False
    if not placed and why_not:
        raise ClusterError(why_not)
    return bool(placed)


def close_slots(slots: "tuple[ActorHandle, ...]", *, timeout_seconds: float = 30.0) -> None:
    """Let the workers of all slots end in an orderly way, then end the slots."""
    for slot in slots:
        slot.close.remote()
    for slot in slots:
        try:
            ray.get(slot.wait_closed.remote(timeout_seconds), timeout=timeout_seconds + 5.0)
        except (RayActorError, GetTimeoutError):
            continue
        finally:
            ray.kill(slot)
