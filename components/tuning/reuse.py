"""An identical configuration is never trained twice in an experiment: a new search takes over the
checkpoint of an earlier one and goes on from there.

Identical means: the same resolved configuration, the same number of documents in a step (it depends
on the number of workers), the same documents and the same code (fingerprints).
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from components.atomic_file import atomic_file
from components.atomic_folder import atomic_folder

TRIAL_FILE = "trial.json"


@dataclass(frozen=True)
class TrialRecord:
    """What a finished trial leaves beside its checkpoint."""

    run_id: str
    outcome: str
    train_batch_size: int
    data_fingerprint: str
    code_fingerprint: str


def record(trial_folder: Path, ended: TrialRecord) -> None:
    """Write trial.json; a trial without a checkpoint leaves none."""
    if (trial_folder / "checkpoint").is_dir():
        with atomic_file(trial_folder / TRIAL_FILE) as file:
            file.write_text(json.dumps(asdict(ended), indent=2) + "\n", encoding="utf-8")


def take_over(
    trial_folder: Path, *, train_batch_size: int, data_fingerprint: str, code_fingerprint: str
) -> str | None:
    """Copy the checkpoint of an identical trial of an earlier search of the experiment; returns the
    run that trained it, None where there is none.

    `trial_folder`: <experiment>/<search>/trials/<configuration>. A trial that has a checkpoint
    already keeps it.
    """
    if (trial_folder / "checkpoint").exists():
        return None
    searches = trial_folder.parents[2]
    for file in sorted(searches.glob(f"*/trials/{trial_folder.name}/{TRIAL_FILE}"), reverse=True):
        earlier = TrialRecord(
            **{"train_batch_size": 0, **json.loads(file.read_text(encoding="utf-8"))}
        )
        found = (earlier.train_batch_size, earlier.data_fingerprint, earlier.code_fingerprint)
        same = found == (train_batch_size, data_fingerprint, code_fingerprint)
        if same and earlier.outcome in ("completed", "stopped"):
            with atomic_folder(trial_folder / "checkpoint") as copy:
                shutil.copytree(file.parent / "checkpoint", copy, dirs_exist_ok=True)
            return earlier.run_id
    return None
