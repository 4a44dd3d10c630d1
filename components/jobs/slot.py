"""A trial slot: one Ray Train worker group that loads the frozen backbone once and then carries out
job after job.

One TorchTrainer per training costs half a minute of process start and imports each; a further one
in a slot costs its own steps. The slot is a Ray actor: whoever asks for jobs talks to it from one
side (slots.py), rank 0 of the worker group from the other (slot_worker.py). Workers that die are
started again; the jobs they had end as failed, and whoever asked decides whether to repeat them
(they then resume from their checkpoints).
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ray

from components.errors import ClusterError
from components.jobs.events import Event, Failed, ends
from components.jobs.hanging import end_hanging
from components.jobs.job import Assignment, SlotSettings
from components.jobs.sequencer import Sequencer
from components.jobs.watchdog import Watchdog
from components.jobs.worker_group import failure_of

if TYPE_CHECKING:
    from ray.actor import ActorHandle

HOLD_SECONDS = 15.0
POLL_SECONDS = 1.0
MOST_FAILED_STARTS = 2
"""Workers that never came to serve: a node may die while they start; two in a row are no
accident.
"""

RunWorkers = Callable[[SlotSettings, "ActorHandle"], None]
"""Start workers that serve the slot until it is closed; returns then, raises what ended them."""


@dataclass
class _Place:
    """One assignment in the slot, from `assign` until its last event was fetched."""

    assignment: Assignment
    held_until: float
    taken: bool = False
    ended: bool = False
    arrivals: Sequencer = field(default_factory=Sequencer)
    events: deque[Event] = field(default_factory=deque)

    def add(self, event: Event) -> None:
        if not self.ended:
            self.events.append(event)
            self.ended = ends(event, self.assignment.job)


class Slot:
    """Mailbox and keeper of one worker group. All methods are quick; those that wait give up after
    a second and are asked again.
    """

    def __init__(self, settings: SlotSettings, run_workers: RunWorkers) -> None:
        self.settings, self.run_workers = settings, run_workers
        self.places: dict[str, _Place] = {}
        self.closed = False
        self.changed = asyncio.Event()
        self.placed, self.why_not_placed, self.failed_starts = False, "", 0
        self.watchdog = Watchdog(float(settings.cluster.progress_timeout_seconds))
        self.why_ended = ""
        self.asks_for_stacks, self.told_stacks = False, dict[int, str]()
        self.loop = asyncio.get_event_loop()
        self.keeper = threading.Thread(target=self._keep_workers, name="slot-workers", daemon=True)
        self.keeper.start()

    # --- asked by whoever has jobs

    async def capacity(self) -> int:
        return self.settings.capacity

    async def assign(self, assignment: Assignment) -> bool:
        """Take an assignment; False where there is no room. An assignment whose owner has not asked
        for its events for a while (it died) gives its room up.
        """
        now = time.monotonic()
        if len(self.places) >= self.settings.capacity:
            self.places = {
                name: place for name, place in self.places.items() if place.held_until > now
            }
        if self.closed or len(self.places) >= self.settings.capacity:
            return False
        self.places[assignment.id] = _Place(assignment, now + HOLD_SECONDS)
        self._notify()
        return True

    async def drop(self, assignment_id: str) -> None:
        """Forget an assignment: its room is free now, its workers end after their present step."""
        self.places.pop(assignment_id, None)
        self._notify()

    async def next_events(self, assignment_id: str) -> list[Event]:
        """Events since the last call, waiting up to a second for one; holds the room further.

        Whoever did not ask for so long that another took the room is told so: the job is then
        repeated, from its checkpoint.
        """
        place = self.places.get(assignment_id)
        if place is not None:
            place.held_until = time.monotonic() + HOLD_SECONDS
            if not place.events:
                await self._wait()
            place = self.places.get(assignment_id)
        if place is None:
            reason = (
                f"the slot was given to another job after {HOLD_SECONDS:.0f} s without a word, "
                "or was started again"
            )
            return [Failed("", reason, "workers")]
        found = list(place.events)
        place.events.clear()
        if place.ended:
            del self.places[assignment_id]
        return found

    async def placement(self) -> tuple[bool, str]:
        """Whether the workers were ever started, and why they cannot be."""
        return self.placed, self.why_not_placed

    async def close(self) -> None:
        """Let the workers go; the worker group ends in an orderly way."""
        self.closed = True
        self._notify()

    async def wait_closed(self, timeout_seconds: float) -> bool:
        """Whether the workers ended within the time."""
        await asyncio.get_event_loop().run_in_executor(None, self.keeper.join, timeout_seconds)
        return not self.keeper.is_alive()

    # --- asked by rank 0 of the workers

    async def workers_placed(self) -> None:
        self.placed = True

    async def take(self) -> tuple[bool, Assignment | None]:
        """(whether the slot is open, an assignment that no worker has yet), waiting up to a second
        for one.
        """
        if not self.closed and self._untaken() is None:
            await self._wait()
        place = self._untaken()
        if self.closed or place is None:
            return not self.closed, None
        place.taken = True
        return True, place.assignment

    async def should_stop(self, assignment_id: str) -> bool:
        return self.closed or assignment_id not in self.places

    async def tell(self, assignment_id: str, number: int, event: Event) -> None:
        """Take the `number`-th event of an assignment."""
        place = self.places.get(assignment_id)
        if place is not None:
            for due in place.arrivals.arrived(number, event):
                place.add(due)
            self._notify()

    # --- asked by every worker

    async def word(self, rank: int, pid: int, node_id: str, beats: int) -> bool:
        """Hear how far a rank is; whether its stacks are wanted."""
        self.watchdog.word(rank, pid, node_id, beats=beats, now=time.monotonic())
        return self.asks_for_stacks

    async def stacks(self, rank: int, text: str) -> None:
        self.told_stacks[rank] = text

    # ---

    def _untaken(self) -> _Place | None:
        return next((place for place in self.places.values() if not place.taken), None)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.changed.wait(), timeout=POLL_SECONDS)

    def _notify(self) -> None:
        """Wake all that wait; a later wait is for what comes later."""
        self.changed.set()
        self.changed = asyncio.Event()

    def _fail(self, error: BaseException) -> None:
        """The workers ended: so did all that they had, and all that waits for them."""
        reason, cause = failure_of(error)
        if self.why_ended:
            reason, cause, self.why_ended = self.why_ended, "workers", ""
        for place in self.places.values():
            place.add(Failed(place.assignment.job.id, reason, cause))
        self.failed_starts += not self.placed
        if isinstance(error, ClusterError):
            self.why_not_placed = str(error)
        elif self.failed_starts >= MOST_FAILED_STARTS:
            self.why_not_placed = (
                f"The workers of a trial slot could not start, {self.failed_starts} times in a "
                f"row: {reason}. Ray's logs of the workers, below its folder of temporary files on "
                "each node, say more."
            )
        self._notify()

    def _keep_workers(self) -> None:
        """Run the workers; start others when they die, until the slot is closed."""
        threading.Thread(target=self._watch, name="slot-watchdog", daemon=True).start()
        while not self.closed:
            self.watchdog = Watchdog(self.watchdog.limit_seconds)
            try:
                self.run_workers(self.settings, ray.get_runtime_context().current_actor)
            # Whatever ended the workers is told to whoever had a job there.
            except BaseException as error:  # noqa: BLE001
                self.loop.call_soon_threadsafe(self._fail, error)
                time.sleep(1.0)

    def _watch(self) -> None:
        """End workers that hang: what they had is then repeated as after any other loss."""
        while not self.closed:
            time.sleep(POLL_SECONDS)
            watched = self.watchdog
            working = any(place.taken and not place.ended for place in list(self.places.values()))
            why = watched.hanging(time.monotonic(), working=working)
            if why is not None:
                file = end_hanging(self, watched, why)
                self.why_ended = f"the workers hang: {why}; where they were: '{file}'"
                # The next workers have a watchdog of their own; should these not end, once more.
                until = time.monotonic() + self.watchdog.limit_seconds
                while self.watchdog is watched and time.monotonic() < until and not self.closed:
                    time.sleep(POLL_SECONDS)
