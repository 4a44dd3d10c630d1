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
from functools import partial
from typing import TYPE_CHECKING

import ray

from components.errors import ClusterError
from components.jobs.draining import drained
from components.jobs.elastic import Growth
from components.jobs.event_log import event_log
from components.jobs.events import Event, Failed, FailureCause, Trained, ends
from components.jobs.flight_record import FlightRecord
from components.jobs.hanging import end_hanging
from components.jobs.job import Assignment, Job, SlotSettings
from components.jobs.sequencer import Sequencer
from components.jobs.slot_metrics import SlotMetrics
from components.jobs.slot_progress import SlotProgress, slot_progress
from components.jobs.watchdog import Watchdog
from components.jobs.worker_group import failure_of

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from components.jobs.words import Word
    from components.training.outcomes import Wanted

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
        self.flight, self.metrics = FlightRecord(), SlotMetrics(settings.experiment)
        self.log = event_log(
            settings.storage_path, "slot", experiment=settings.experiment, echo=True
        )
        self.why_ended, self.why_leave = "", ""
        self.growth, self.asks_for_stacks = Growth(settings.cluster), False
        self.loop = asyncio.get_event_loop()
        self.keeper = threading.Thread(target=self._keep_workers, name="slot-workers", daemon=True)
        self.keeper.start()

    # --- asked by whoever has jobs

    async def capacity(self) -> int:
        return self.settings.capacity

    async def assign(self, assignment: Assignment, beside: int | None = None) -> bool:
        """Take an assignment; False where there is no room, or more than `beside` others are here.
        An assignment whose owner has not asked for its events for a while (it died) gives its room
        up.
        """
        now, capacity = time.monotonic(), self.settings.capacity
        if len(self.places) >= capacity:
            self.places = {
                name: place for name, place in self.places.items() if place.held_until > now
            }
        most = capacity if beside is None else min(capacity, beside + 1)
        if self.closed or len(self.places) >= most:
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

    async def progress(self) -> tuple[SlotProgress, ...]:
        """How far it is with each job that it works at; one without a job where there is none."""
        at_work = [place for place in self.places.values() if place.taken and not place.ended]
        jobs: list[Job | None] = [place.assignment.job for place in at_work]
        ranks, leaving = self.growth.ranks, self.why_leave
        return tuple(
            slot_progress(self.flight, job, ranks=ranks, leaving=leaving) for job in jobs or [None]
        )

    async def close(self) -> None:
        """Let the workers go; the worker group ends in an orderly way."""
        self.closed = True
        self._notify()

    async def wait_closed(self, timeout_seconds: float) -> bool:
        """Whether the workers ended within the time."""
        await asyncio.get_event_loop().run_in_executor(None, self.keeper.join, timeout_seconds)
        return not self.keeper.is_alive()

    # --- asked by rank 0 of the workers

    async def workers_placed(self, ranks: int) -> None:
        """Of so many workers one has started."""
        self.placed = True
        self.growth.began(ranks, time.monotonic())

    async def take(self, wait: bool = True) -> tuple[bool, Assignment | None]:
        """(whether these workers are to stay, an assignment that no worker has yet), waiting up to
        a second for one, or not at all where they have others at hand.
        """
        if wait and self._serving() and self._untaken() is None:
            await self._wait()
        place = self._untaken()
        if not self._serving() or place is None:
            return self._serving(), None
        place.taken = True
        return True, place.assignment

    async def wanted(self, assignment_id: str) -> "Wanted":
        if self.closed or assignment_id not in self.places:
            return "stop"
        return "leave" if self.why_leave else "steps"

    async def tell(self, assignment_id: str, number: int, event: Event) -> None:
        """Take the `number`-th event of an assignment."""
        place = self.places.get(assignment_id)
        if place is not None:
            if isinstance(event, Trained) and event.outcome == "diverged":
                job = place.assignment.job
                keep = partial(self.flight.write, job, reason=event.reason, cause="diverged")
                await self.loop.run_in_executor(None, keep)
            for due in place.arrivals.arrived(number, event):
                place.add(due)
            self._notify()

    # --- asked by every worker

    async def word(self, word: "Word") -> bool:
        """Hear how far a rank is; whether its stacks are wanted."""
        now = time.monotonic()
        self.watchdog.word(word.rank, word.pid, word.node_id, beats=word.beats, now=now)
        self.flight.hear(word)
        self.metrics.hear(word)
        return self.asks_for_stacks

    async def stacks(self, rank: int, text: str) -> None:
        self.flight.stacks[rank] = text

    # ---

    def _serving(self) -> bool:
        """Whether the present workers are to take more."""
        return not self.closed and not self.why_leave

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
        reason, cause = self._blame(error)
        self.why_ended = ""
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

    def _blame(self, error: BaseException) -> tuple[str, FailureCause]:
        return (self.why_ended, "workers") if self.why_ended else failure_of(error)

    def _keep_workers(self) -> None:
        """Run the workers; start others when they end, until the slot is closed."""
        threading.Thread(target=self._watch, name="slot-watchdog", daemon=True).start()
        threading.Thread(target=self._watch_nodes, name="slot-nodes", daemon=True).start()
        while not self.closed:
            self.watchdog = Watchdog(self.watchdog.limit_seconds)
            self.growth.ended()
            self.flight, self.why_leave = FlightRecord(), ""
            try:
                self.run_workers(self.settings, ray.get_runtime_context().current_actor)
            # Whatever ended the workers is told to whoever had a job there.
            except BaseException as error:  # noqa: BLE001
                self._keep_flight(error)
                self.loop.call_soon_threadsafe(self._fail, error)
                time.sleep(1.0)

    def _keep_flight(self, error: BaseException) -> None:
        """Write down what is known of what the workers had."""
        reason, cause = self._blame(error)
        self.log.tell("workers ended", reason=reason, cause=cause)
        for place in list(self.places.values()):
            if place.taken and not place.ended:
                with suppress(OSError):  # the storage may be what ended them
                    self.flight.write(place.assignment.job, reason=reason, cause=cause)

    def _watch_nodes(self) -> None:
        """Let workers leave whose node is about to go, or where there is room for more of them;
        apart from the watchdog, because a cluster that is busy answers late.
        """
        while not self.closed:
            time.sleep(POLL_SECONDS)
            if self.why_leave:
                continue
            flight = self.flight
            why = drained(flight.nodes()) or self.growth.due(time.monotonic())
            if why and flight is self.flight:  # not of workers that have ended meanwhile
                self.why_leave = why
                self.log.tell("workers are to leave", reason=why)

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
