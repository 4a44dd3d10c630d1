"""What the tracker in memory keeps: runs, models, and files as bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.registry.history import HistoryEntry
from components.registry.pages import Dataset
from components.registry.tracking import RegisteredVersion


@dataclass
class MemoryRun:
    """A run: everything that was logged. `metrics` maps a name to its (step, value) pairs in
    order.
    """

    experiment: str
    name: str
    parent: str | None
    tags: dict[str, str]
    status: str = "RUNNING"
    continued: bool = False
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    description: str = ""


@dataclass
class MemoryModel:
    versions: list[RegisteredVersion] = field(default_factory=list)
    aliases: dict[str, int] = field(default_factory=dict)
    before: tuple[int, ...] = ()
    history: list[HistoryEntry] = field(default_factory=list)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def read_files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
