"""When a training goes on from a checkpoint, and whose: the one rule for searches, comparisons and
studies.

Its own checkpoint, in its own folder, is always gone on from; the checkpoint itself refuses other
settings and documents. That of an identical training of an earlier search is copied first.
Identical means: the same resolved configuration, the same number of documents in a step, the same
documents and the same code.
"""

import shutil
from pathlib import Path

from components.atomic_folder import atomic_folder
from components.checksums import Damaged, check
from components.errors import ArtifactError
from components.jobs.record import Identity, JobRecord, read_record
from components.jobs.trial import FOLDER_DIGITS


def is_same_training(record: JobRecord, identity: Identity) -> bool:
    """Whether the record is one of the training that `identity` asks for. Records from before
    record.json know only the digits of the configuration that name their folder.
    """
    found = record.identity
    return (
        found.config_sha256[:FOLDER_DIGITS] == identity.config_sha256[:FOLDER_DIGITS]
        and found.train_batch_size == identity.train_batch_size
        and found.data_fingerprint == identity.data_fingerprint
        and found.code_fingerprint == identity.code_fingerprint
    )


def reuse(folder: Path, identity: Identity) -> JobRecord | None:
    """Copy the checkpoint of an identical trial of another search of the experiment; returns its
    record, None where there is none.

    `folder`: <experiment>/<search>/trials/<configuration>. A trial that has a checkpoint already
    keeps it; a damaged record or checkpoint of another search is passed over.
    """
    if (folder / "checkpoint").exists():
        return None
    searches = folder.parents[2]
    for other in sorted(searches.glob(f"*/trials/{folder.name}"), reverse=True):
        earlier = _readable(other)
        if earlier is None or not (other / "checkpoint").is_dir():
            continue
        reusable = earlier.outcome in ("completed", "stopped")
        if reusable and is_same_training(earlier, identity) and _copied(other, folder):
            return earlier
    return None


def _copied(source: Path, target: Path) -> bool:
    """Whether a job's checkpoint was whole and was copied; a damaged one is left alone."""
    checkpoint = source / "checkpoint"
    try:
        check(checkpoint)
        with atomic_folder(target / "checkpoint") as copy:
            shutil.copytree(checkpoint, copy, dirs_exist_ok=True)
    except Damaged:
        return False
    return True


def _readable(folder: Path) -> JobRecord | None:
    try:
        return read_record(folder)
    except ArtifactError:
        return None
