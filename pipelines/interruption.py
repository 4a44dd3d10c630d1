"""One interruption ends a workflow; those that follow wait until it has put its runs in order."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 3
"""Signals after which a workflow is ended at once, whatever state its runs are in."""


@contextmanager
def one_interruption() -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM (a stopped job, a preempted pod) of the block into
    KeyboardInterrupt, answer the second with a line, and give way to the third. Does nothing
    outside the main thread, or inside such a block.
    """
    handlers = [signal.getsignal(each) for each in SIGNALS]
    if threading.current_thread() is not threading.main_thread() or any(
        isinstance(handler, _Interruption) for handler in handlers
    ):
        yield
        return
    once = _Interruption()
    for each in SIGNALS:
        signal.signal(each, once)
    try:
        yield
    finally:
        for each, handler in zip(SIGNALS, handlers, strict=True):
            signal.signal(each, handler)


class _Interruption:
    """A signal handler that counts."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        self.seen += 1
        if self.seen == 1 or self.seen >= PATIENCE:
            raise KeyboardInterrupt
        sys.stderr.write(
            "Ending already: runs are being closed. Once more ends it at once and leaves them "
            "shown as running.\n"
        )
