"""What a comparison leaves on disk, cell by cell: the state that the same command goes on from.

<storage>/<comparison>/cells/<task>/<method>/<key>/: cell.json, predictions.npz, checkpoint/,
adapter/. The key is made of the training's settings, the documents of a step (which the number of
workers changes) and the documents' fingerprint, so that a changed setting touches its own cells
only, and a search training whose settings a final one shares is not run twice. The code is no part
of it: hours of training outlive a changed message. Each record names its code, and a comparison of
different codes says so.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components.atomic_file import atomic_file
from components.config import TrainConfig, config_sha256
from components.errors import ArtifactError

CELL_FILE, PREDICTIONS_FILE = "cell.json", "predictions.npz"


@dataclass(frozen=True)
class Cell:
    """One training of the comparison. `final`: it is evaluated on test documents."""

    task: str
    method: str
    point: Mapping[str, Any]
    seed: int
    final: bool
    config: TrainConfig
    train_batch_size: int
    data_fingerprint: str
    data_folder: str

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(
            f"{config_sha256(self.config)} {self.train_batch_size} {self.data_fingerprint}".encode()
        ).hexdigest()[:16]

    @property
    def name(self) -> str:
        shown = ", ".join(
            f"{path.rpartition('.')[2]} {value}" for path, value in self.point.items()
        )
        return f"{self.task}, {self.method}, {shown + ', ' if shown else ''}seed {self.seed}"

    def folder(self, root: Path) -> Path:
        return root / "cells" / self.task / self.method / self.key


@dataclass(frozen=True)
class CellRecord:
    """What is known of a cell. `outcome`: completed, diverged or failed (a failed one is tried
    again by the next run); `final`: its evaluation on test documents, where there was one.

    `best_metrics`: of its best evaluation on validation documents; `seconds`: training with its
    evaluations; `code_fingerprint`: of the code that trained it.
    """

    outcome: str
    reason: str
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    trainable_parameters: int | None = None
    peak_memory_bytes: int | None = None
    code_fingerprint: str = ""
    final: Mapping[str, Any] | None = None

    @property
    def trained(self) -> bool:
        return self.outcome in ("completed", "diverged")

    def covers(self, cell: Cell) -> bool:
        """Whether nothing is left to do for the cell."""
        return self.outcome == "diverged" or (
            self.outcome == "completed" and (self.final is not None or not cell.final)
        )


def read_record(cell: Cell, root: Path) -> CellRecord | None:
    """The cell's record, None where there is none. Raises ArtifactError where the file is
    damaged.
    """
    file = cell.folder(root) / CELL_FILE
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))["record"]
        return CellRecord(**{**values, "history": tuple(values["history"])})
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"'{file}' cannot be read ({error}). Remove its folder to run this cell again."
        ) from error


def write_record(cell: Cell, root: Path, record: CellRecord) -> None:
    """Write the record, whole or not at all, with what identifies the cell for a reader."""
    content = {
        "cell": {
            "task": cell.task,
            "method": cell.method,
            "point": dict(cell.point),
            "seed": cell.seed,
        },
        "config_sha256": config_sha256(cell.config),
        "data_fingerprint": cell.data_fingerprint,
        "record": asdict(record),
        "config": cell.config.model_dump(mode="json"),
    }
    with atomic_file(cell.folder(root) / CELL_FILE) as file:
        file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_predictions(cell: Cell, root: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of the cell's predictions.npz (components/training/finalize.py)."""
    with np.load(cell.folder(root) / PREDICTIONS_FILE) as arrays:
        return {name: arrays[name] for name in arrays.files}
