"""Peak memory and processor time of a process and all its descendants, sampled.

Proportional set size: pages that processes share (torch's libraries, Ray's object store) count
once. The sum of resident set sizes would count them once per process.
"""

import contextlib
import threading
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL_SECONDS = 1.0


class TreeSampler:
    """Context manager: while it is open, peak memory, number of processes and processor time follow
    the tree below a process.

    Processor time does not depend on what else the machine does; what a process used between the
    last sample and its end is missed.
    """

    def __init__(self, pid: int, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self.root, self.interval_seconds = psutil.Process(pid), interval_seconds
        self.peak_bytes, self.peak_processes = 0, 0
        self._cpu_seconds: dict[tuple[int, float], float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="tree-sampler", daemon=True)

    def __enter__(self) -> "TreeSampler":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(psutil.NoSuchProcess):
                processes = [self.root, *self.root.children(recursive=True)]
                self.peak_bytes = max(
                    self.peak_bytes,
                    sum(proportional_set_size(process.pid) for process in processes),
                )
                self.peak_processes = max(self.peak_processes, len(processes))
                for process in processes:
                    self._note_cpu(process)
            self._ended.wait(self.interval_seconds)

    def _note_cpu(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            self._cpu_seconds[process.pid, process.create_time()] = times.user + times.system

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all processes seen."""
        return sum(self._cpu_seconds.values())


def proportional_set_size(pid: int) -> int:
    """Bytes of memory of one process, shared pages divided among their users; 0 for a process that
    has ended.
    """
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 0
    return 0
