"""What a benchmark ran on: the machine, the versions, and how fast the machine multiplies matrices
right now.
"""

import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "torch",
    "ray",
    "deepspeed",
    "transformers",
    "datasets",
    "tokenizers",
    "mlflow",
    "numpy",
    "peft",
)


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory in bytes, GPUs."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Python and the packages that decide speed, as installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def load_average() -> float:
    """Runnable processes over the last minute: above the number of cores, wall times say more about
    the neighbours than about the program.
    """
    return round(os.getloadavg()[0], 1)


def matrix_rate_gflops(*, size: int = 2048, repeats: int = 7) -> float:
    """Billions of float32 operations per second of a square matrix product with all threads: the
    rate no training step on this CPU can beat.
    """
    import torch

    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - started)
    return round(2.0 * size**3 / statistics.median(seconds) / 1e9, 1)
