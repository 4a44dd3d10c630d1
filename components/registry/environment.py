"""Where a run came from: versions, code, configuration and data, so that it can be repeated."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "prefixprop",
    "torch",
    "transformers",
    "deepspeed",
    "ray",
    "mlflow",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "pydantic",
)
SOURCE_ROOT = Path(__file__).resolve().parents[2]
CODE_VERSION = "PREFIXPROP_CODE_VERSION"
"""What a submitter tells a job in its environment: the upload leaves `.git` out."""


@cache
def installed_version(package: str) -> str | None:
    """Version of an installed distribution; None where it is not installed. Imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Versions and machine, JSON-able: what decides numbers besides configuration and data."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": {
            package: version
            for package in PACKAGES
            if (version := installed_version(package)) is not None
        },
        "code_version": code_version(),
        "code_fingerprint": code_fingerprint(),
    }


@cache
def code_version() -> str:
    """The git commit of the checkout this runs from (`-dirty` where tracked files differ from it);
    of an upload, which has no git, the one that its submitter told; else the installed package's
    version, else `unknown`.
    """
    commit = _git("rev-parse", "HEAD") if (SOURCE_ROOT / ".git").exists() else None
    if commit is None:
        told = os.environ.get(CODE_VERSION, "")
        return told or installed_version("prefixprop") or "unknown"
    return commit + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")


@cache
def code_fingerprint() -> str:
    """First 16 hex digits of the sha256 over the Python files of `components`, the code that
    trains: equal on driver and workers exactly when both run the same.

    `pipelines` is left out: a worker computes nothing with it, and Ray may bring the two packages
    to a worker in different folders.
    """
    digest = hashlib.sha256()
    for path in sorted((SOURCE_ROOT / "components").rglob("*.py")):
        digest.update(
            str(path.relative_to(SOURCE_ROOT)).encode() + b"\0" + path.read_bytes() + b"\0"
        )
    return digest.hexdigest()[:16]


def run_tags(
    *, config_sha256: str, data_fingerprint: str | None = None, **further: str
) -> dict[str, str]:
    """The tags that every run carries; `further` adds to them. A missing data fingerprint is left
    out, not written as empty. Versions of packages stand in environment.json.
    """
    tags = {
        "config_sha256": config_sha256,
        "code_version": code_version(),
        "code_fingerprint": code_fingerprint(),
        "mlflow.source.name": "prefixprop",
        "mlflow.source.type": "LOCAL",
        **further,
    }
    if data_fingerprint is not None:
        tags["data_fingerprint"] = data_fingerprint
    commit = code_version().removesuffix("-dirty")
    if len(commit) == 40:
        tags["mlflow.source.git.commit"] = commit
    return tags


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(SOURCE_ROOT), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
