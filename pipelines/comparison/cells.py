"""The cells of a comparison: its trainings, and where each leaves what the same command goes on
from.

<storage>/<comparison>/cells/<task>/<method>/<key>/: record.json, predictions.npz, checkpoint/,
adapter/. The key is made of the training's settings, the documents of a step (which the number of
workers changes) and the documents' fingerprint, so that a changed setting touches its own cells
only, and a search training whose settings a final one shares is not run twice. The code is no part
of it: hours of training outlive a changed message. Each record names its code, and a comparison of
different codes says so.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from components.config import TrainConfig, config_sha256, resolved
from components.jobs.job import Job
from components.jobs.record import Identity, JobRecord, write_record
from components.jobs.trial import Trial
from components.registry import code_fingerprint

PREDICTIONS_FILE = "predictions.npz"


@dataclass(frozen=True)
class Cell:
    """One training of the comparison. `final`: it is evaluated on test documents."""

    task: str
    method: str
    seed: int
    final: bool
    trial: Trial
    train_batch_size: int
    data_fingerprint: str
    data_folder: Path

    @property
    def key(self) -> str:
        return self.trial.folder.name

    @property
    def name(self) -> str:
        shown = ", ".join(
            f"{path.rpartition('.')[2]} {value}" for path, value in self.trial.point.items()
        )
        return f"{self.task}, {self.method}, {shown + ', ' if shown else ''}seed {self.seed}"

    @property
    def identity(self) -> Identity:
        """As trained by the present code."""
        return Identity(
            self.trial.sha256, self.train_batch_size, self.data_fingerprint, code_fingerprint()
        )

    @property
    def about(self) -> dict[str, Any]:
        """What tells a reader of its record which cell it is."""
        return {
            "task": self.task,
            "method": self.method,
            "point": dict(self.trial.point),
            "seed": self.seed,
        }

    def job(self, known: JobRecord | None) -> Job:
        """What is left to do. `known`: its record, where there is one."""
        return Job(
            id=self.key,
            config=self.trial.config,
            data_folder=self.data_folder,
            folder=self.trial.folder,
            train=known is None or known.outcome != "completed",
            evaluate=self.final,
        )

    def is_covered_by(self, record: JobRecord) -> bool:
        """Whether nothing is left to do."""
        return record.outcome == "diverged" or (
            record.outcome == "completed" and (record.final is not None or not self.final)
        )


def cell_trial(
    config: TrainConfig,
    point: Mapping[str, Any],
    *,
    folder: Path,
    train_batch_size: int,
    data_fingerprint: str,
) -> Trial:
    """The trial of a cell below its method's `folder`."""
    sha256 = config_sha256(config)
    key = hashlib.sha256(f"{sha256} {train_batch_size} {data_fingerprint}".encode()).hexdigest()
    return Trial(dict(point), config, sha256, folder / key[:16])


def keep_record(cell: Cell, record: JobRecord) -> None:
    """Write the cell's record beside its checkpoint."""
    write_record(cell.trial.folder, record, config=resolved(cell.trial.config))


def read_predictions(cell: Cell) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays of the cell's predictions.npz (components/training/finalize.py)."""
    with np.load(cell.trial.folder / PREDICTIONS_FILE) as arrays:
        return {name: arrays[name] for name in arrays.files}


def predictions_are_lost(cell: Cell) -> bool:
    """Whether they are damaged (every array in the file carries a checksum of its own), or gone
    though there is a checkpoint to make them anew.
    """
    try:
        read_predictions(cell)
    except FileNotFoundError:
        return (cell.trial.folder / "checkpoint").is_dir()
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error):
        return True
    return False
