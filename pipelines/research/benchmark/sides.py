"""A side of a comparison: a process of its own that makes one step whenever it is told to, so that
sides take turns within one run and each one's memory is its own.

A side is a function (settings, turns) -> values of its first step. It builds what it needs, then
makes one step per turn: `while turns.wait(): ...; turns.done(seconds)`.
"""

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

READY_TIMEOUT_SECONDS = 900.0
# Every tensor of more than 128 KiB is a mapping of its own, which goes back when it is freed:
# glibc would keep it otherwise, and the peak would be that of its heap.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
Values = Mapping[str, np.ndarray]


class Turns:
    """The side's end of the line."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._cpu_started = 0.0
        self.resident_bytes = 0

    def wait(self) -> bool:
        """Whether another step is wanted; blocks until that is known."""
        if not self.resident_bytes:
            self.resident_bytes = restart_peak()
            self._line.send("ready")
        wanted = bool(self._line.recv())
        self._cpu_started = time.process_time()
        return wanted

    def done(self, seconds: float) -> None:
        """Report a step's duration."""
        self._line.send((seconds, time.process_time() - self._cpu_started))


@dataclass(frozen=True)
class SideResult:
    """What one side measured. `seconds` and `cpu_seconds` (of all threads): of each step, in order;
    `resident_bytes`: before the first step; `peak_bytes`: while stepping.
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    resident_bytes: int
    peak_bytes: int
    values: Values

    def summary(self, tokens: int) -> dict[str, Any]:
        """Plain values for the report; `tokens`: text tokens of one step."""
        median = statistics.median(self.seconds)
        return {
            "seconds": median,
            "seconds_min": min(self.seconds),
            "seconds_max": max(self.seconds),
            "cpu_seconds": statistics.median(self.cpu_seconds),
            "repeats": len(self.seconds),
            "tokens_per_second": tokens / median,
            "peak_memory_bytes": self.peak_bytes,
            "step_memory_bytes": self.peak_bytes - self.resident_bytes,
        }


class Side:
    """The driver's end: starts the process, asks for steps, and ends it."""

    def __init__(self, function: str, settings: Mapping[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, function, dict(settings)), daemon=True, name=function
        )
        with _environment(MALLOC):
            self._process.start()
        theirs.close()
        self._times: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def ready(self) -> None:
        """Wait until the side has built what it needs. Raises RuntimeError where it ended
        before.
        """
        if not self._line.poll(READY_TIMEOUT_SECONDS):
            raise RuntimeError(
                f"{self._process.name}: not ready after {READY_TIMEOUT_SECONDS:.0f} s"
            )
        self._receive()

    def step(self, *, counted: bool = True) -> None:
        """Make one step and note its duration."""
        self._line.send(True)
        times = self._receive()
        if counted:
            self._times.append(times)

    def finish(self) -> SideResult:
        self._line.send(False)
        resident, peak, values = self._receive()
        seconds, cpu_seconds = zip(*self._times, strict=True)
        return SideResult(
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            resident_bytes=resident,
            peak_bytes=peak,
            values=values,
        )

    def _receive(self) -> Any:
        try:
            answer = self._line.recv()
        except EOFError:
            raise RuntimeError(
                f"{self._process.name}: the side's process ended; its error is on stderr above"
            ) from None
        return answer


def take_turns(
    sides: Sequence[tuple[str, Mapping[str, Any]]], *, repeats: int, warm_up: int = 1
) -> list[SideResult]:
    """Run every (function, settings) in a process of its own, step by step in turns; results in the
    given order.

    Sides are built one after the other. `warm_up` steps per side are not counted.
    """
    with ExitStack() as stack:
        running = []
        for function, settings in sides:
            side = stack.enter_context(Side(function, settings))
            side.ready()
            running.append(side)
        for turn in range(warm_up + repeats):
            for side in running:
                side.step(counted=turn >= warm_up)
        return [side.finish() for side in running]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Context in which a process that is started has these in its environment."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def largest_difference(ours: Values, theirs: Values) -> float:
    """Largest absolute difference between values of the same name; raises AssertionError where
    names or shapes differ.
    """
    assert ours.keys() == theirs.keys(), f"{sorted(ours)} against {sorted(theirs)}"
    worst = 0.0
    for name, value in ours.items():
        assert value.shape == theirs[name].shape, (
            f"{name}: {value.shape} against {theirs[name].shape}"
        )
        worst = max(worst, float(np.abs(value - theirs[name]).max(initial=0.0)))
    return worst


def _serve(line: Connection, function: str, settings: Mapping[str, Any]) -> None:
    module, name = function.split(":")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.dup2(2, 1)  # what a peer prints belongs to stderr: stdout carries the report
    turns = Turns(line)
    side: Callable[[Mapping[str, Any], Turns], Values] = getattr(import_module(module), name)
    values = side(settings, turns)
    line.send((turns.resident_bytes, peak_bytes(), values))


def restart_peak() -> int:
    """Forget the process's peak memory so far; returns what is resident now, in bytes."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return peak_bytes()
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    if Path("/proc/self/status").exists():
        return _status_bytes("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)
