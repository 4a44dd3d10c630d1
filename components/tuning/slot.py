"""A trial slot: one Ray Train worker group that loads the frozen backbone once and then serves
trial after trial.

One TorchTrainer per trial costs half a minute of process start and imports each; a further trial in
a slot costs its own steps. The slot is a Ray actor: Tune's trials talk to it from one side, rank 0
of the worker group from the other. Workers that die are started again; the assignment they had ends
with an error and Tune decides whether to repeat it (it then resumes from its checkpoint).
"""

import asyncio
import os
import threading
import time
import uuid
from collections import deque
from typing import Any

import ray

from components.errors import ClusterError, UserError
from components.tuning.assignments import Assignment, Message, SlotSettings
from components.tuning.in_order import InOrder
from components.tuning.slot_worker import serve

LEASE_SECONDS = 15.0


class TrialSlot:
    """Mailbox and keeper of one worker group. All methods are quick; those that wait give up after
    a second and are asked again.
    """

    def __init__(self, settings: SlotSettings) -> None:
        self.settings = settings
        self.sequence = 0
        self.assignment: Assignment | None = None
        self.stopped = False
        self.closed = False
        self.messages: deque[Message] = deque()
        self.arrivals = InOrder()
        self.changed = asyncio.Event()
        self.holder, self.held_until = "", 0.0
        self.placed, self.why_not_placed = False, ""
        self.loop = asyncio.get_event_loop()
        self.keeper = threading.Thread(target=self._keep_workers, name="slot-workers", daemon=True)
        self.keeper.start()

    # --- asked by trials
    # -------------------------------------------------------------------------------------------------------------------------

    async def lease(self, holder: str) -> bool:
        """Take the slot for one trial actor. A lease ends when it is released or was not renewed
        for a while (its holder died).
        """
        free = self.holder in ("", holder) or time.monotonic() > self.held_until
        if free:
            self.holder, self.held_until = holder, time.monotonic() + LEASE_SECONDS
        return free

    async def release(self, holder: str) -> None:
        if self.holder == holder:
            self.holder = ""

    async def assign(self, assignment: Assignment) -> int:
        """Give the workers something to do, in place of what they do now; returns its sequence
        number.
        """
        self.sequence += 1
        self.assignment, self.stopped = assignment, False
        self.messages.clear()
        self.arrivals = InOrder()
        self._notify()
        return self.sequence

    async def stop(self, sequence: int) -> None:
        """Ask the workers to end an assignment after their present step."""
        if sequence == self.sequence:
            self.stopped = True

    async def next_messages(self, sequence: int, holder: str) -> list[Message]:
        """Messages since the last call, waiting up to a second for one; renews the holder's lease.

        A holder that did not ask for so long that another took the slot is told so: Tune then
        repeats its trial, from its checkpoint.
        """
        if holder == self.holder:
            self.held_until = time.monotonic() + LEASE_SECONDS
        if not self.messages:
            await self._wait()
        if sequence != self.sequence:
            return [
                Message(
                    "error",
                    {
                        "error": (
                            f"the slot was taken by another trial after {LEASE_SECONDS:.0f} s "
                            "without a word"
                        ),
                        "user": False,
                    },
                )
            ]
        found = list(self.messages)
        self.messages.clear()
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
    # ----------------------------------------------------------------------------------------------------------

    async def workers_placed(self) -> None:
        self.placed = True

    async def next_assignment(self, after: int) -> tuple[int, Assignment | None]:
        """The newest assignment if it is newer than `after`, waiting up to a second; (-1, None)
        when the slot is closed.
        """
        if not self.closed and (self.sequence == after or self.assignment is None):
            await self._wait()
        if self.closed:
            return -1, None
        return self.sequence, self.assignment

    async def should_stop(self, sequence: int) -> bool:
        return self.closed or self.stopped or sequence != self.sequence

    async def tell(self, sequence: int, number: int, message: Message) -> None:
        """Take the `number`-th message of an assignment."""
        if sequence != self.sequence:
            return
        for due in self.arrivals.arrived(number, message):
            self.messages.append(due)
            if due.kind == "end":
                self.assignment = None
        self._notify()

    # -----------------------------------------------------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        self.changed.clear()
        try:
            await asyncio.wait_for(self.changed.wait(), timeout=1.0)
        except TimeoutError:
            return

    def _notify(self) -> None:
        self.changed.set()

    def _fail(self, error: BaseException) -> None:
        self.messages.append(
            Message(
                "error",
                {"error": _root_message(error), "user": isinstance(_root(error), UserError)},
            )
        )
        self.assignment = None
        if isinstance(error, ClusterError):
            self.why_not_placed = str(error)
        self._notify()

    def _keep_workers(self) -> None:
        """Run the worker group; start another one when it dies, until the slot is closed."""
        while not self.closed:
            try:
                run_worker_group(self.settings, ray.get_runtime_context().current_actor)
            except BaseException as error:  # noqa: BLE001  (whatever ended the workers is told to the trial that had them)
                self.loop.call_soon_threadsafe(self._fail, error)
                time.sleep(1.0)


def run_worker_group(settings: SlotSettings, slot: Any) -> None:
    """One Ray Train run whose workers serve the slot until it is closed. Raises what ended them."""
    from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    cluster = settings.cluster
    resources = {"CPU": cluster.cpus_per_worker} | (
        {"GPU": cluster.gpus_per_worker} if cluster.gpus_per_worker else {}
    )
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(cluster.placement_timeout_seconds)
    trainer = TorchTrainer(
        serve,
        train_loop_config={"settings": settings, "slot": slot},
        scaling_config=ScalingConfig(
            num_workers=cluster.num_workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        torch_config=TorchConfig(backend="nccl" if cluster.gpus_per_worker else "gloo"),
        run_config=RunConfig(
            name=f"slot-{uuid.uuid4().hex[:12]}",
            storage_path=os.path.join(settings.storage_path, "slots"),
            failure_config=FailureConfig(
                controller_failure_limit=0
            ),  # its default asks for the same room for ever
        ),
    )
    try:
        trainer.fit()
    except ControllerError as error:
        raise ClusterError(
            "The workers of a trial slot could not be started within "
            f"cluster.placement_timeout_seconds ({cluster.placement_timeout_seconds} s): the "
            "cluster has no room for "
            f"{cluster.num_workers} worker(s) of {cluster.cpus_per_worker:g} CPU and "
            f"{cluster.gpus_per_worker:g} GPU beside what runs there. "
            "Wait for it to end, lower search.concurrent_slots or cluster.num_workers, or raise "
            f"the time. ({type(error.controller_failure).__name__})"
        ) from error


def _root(error: BaseException) -> BaseException:
    """The worker's own exception under Ray's wrappers."""
    if isinstance(error, UserError):
        return error
    inner: Any = getattr(error, "worker_failures", None)
    if inner:
        return _root(next(iter(inner.values())))
    cause = getattr(error, "cause", None) or error.__cause__
    return _root(cause) if isinstance(cause, BaseException) and cause is not error else error


def _root_message(error: BaseException) -> str:
    root = _root(error)
    return (
        f"{type(root).__name__}: {str(root).strip().splitlines()[-1] if str(root).strip() else ''}"
    )


def start_slot(settings: SlotSettings) -> Any:
    """Start a slot; its workers load the backbone while the caller goes on."""
    return ray.remote(num_cpus=0, max_concurrency=64)(TrialSlot).remote(settings)


def wait_until_placed(slots: tuple[Any, ...]) -> None:
    """Return when the workers of all slots have started (they load the backbone then). Raises
    ClusterError where the cluster has no room for them.
    """
    waiting = list(slots)
    while waiting:
        answers = ray.get([slot.placement.remote() for slot in waiting])
        if reasons := [why for placed, why in answers if not placed and why]:
            raise ClusterError(reasons[0])
        waiting = [slot for slot, (placed, _) in zip(waiting, answers, strict=True) if not placed]
        if waiting:
            time.sleep(0.1)


def close_slots(slots: tuple[Any, ...], *, timeout_seconds: float = 30.0) -> None:
    """Let the workers of all slots end in an orderly way, then end the slots."""
    for slot in slots:
        slot.close.remote()
    for slot in slots:
        try:
            ray.get(slot.wait_closed.remote(timeout_seconds), timeout=timeout_seconds + 5.0)
        finally:
            ray.kill(slot)
