"""The resumable checkpoint of a trial: a few MB, independent of world size and ZeRO stage, written
whole or not at all.

Folder: `state.json` (numbers a person can read), `trainable.safetensors` (trained parameters),
`optimizer.safetensors` (AdamW's moments), `best.safetensors` (artifact tensors of the best
evaluation), `checksums.json`. The checkpoint before it stays beside it: a damaged one costs the
steps between the two, and no wrong number. No random state is stored: data order and dropout are
functions of (seed, epoch, step, rank).
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.atomic_folder import atomic_folder, recover
from components.checksums import Damaged, check
from components.config import TrainConfig
from components.config.hashes import hashed_settings
from components.errors import ArtifactError
from components.training.outcomes import Progress

FORMAT = 1
STATE_FILE = "state.json"
TENSOR_FILES = ("trainable.safetensors", "optimizer.safetensors", "best.safetensors")

CheckpointState = Literal["whole", "earlier", "none"]
"""whole: the latest is there; earlier: it was damaged, and the one before it took its place."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a trial resumes from. `loss_sum` over `loss_terms`: of the steps since the
    last evaluation, all ranks together; none where it was written by one.
    """

    progress: Progress
    resume_key: str
    parameters: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    loss_sum: float = 0.0
    loss_terms: int = 0


def resume_key(config: TrainConfig, data_fingerprint: str, *, world_size: int) -> str:
    """Hash of what decides a trial's outcome, the documents included.

    Left out is what does not: ZeRO, how a step is cut into micro-batches and ranks (only its number
    of documents counts), gradient checkpointing and the attention's implementation.
    """
    values = hashed_settings(config)
    training = values["training"]
    micro, accumulate = (
        training.pop("micro_batch_size"),
        training.pop("gradient_accumulation_steps"),
    )
    for section, name in (
        ("training", "tokens_per_batch"),
        ("training", "gradient_checkpointing"),
        ("backbone", "attention"),
    ):
        values[section].pop(name)
    values.pop("zero")
    values["data_fingerprint"] = data_fingerprint
    values["train_batch_size"] = micro * accumulate * world_size
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write (or replace) a checkpoint folder atomically. Raises AssertionError where a tensor is
    empty or not finite.
    """
    for name, tensor in {**checkpoint.parameters, **checkpoint.moments}.items():
        assert tensor.numel() > 0 and bool(torch.isfinite(tensor).all()), (
            f"{name} is empty or not finite; the last good checkpoint stays"
        )
    with atomic_folder(folder, checksums=True, predecessor=before(folder)) as temporary:
        state = {
            "format": FORMAT,
            "resume_key": checkpoint.resume_key,
            **asdict(checkpoint.progress),
        }
        if checkpoint.loss_terms:
            state["since_evaluation"] = [checkpoint.loss_sum, checkpoint.loss_terms]
        (temporary / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        save_file(dict(checkpoint.parameters), temporary / "trainable.safetensors")
        save_file(dict(checkpoint.moments), temporary / "optimizer.safetensors")
        save_file(dict(checkpoint.best), temporary / "best.safetensors")


def before(folder: Path) -> Path:
    """Where the checkpoint lies that this one took the place of."""
    return folder.with_name(f"{folder.name}.before")


def settle(folder: Path) -> CheckpointState:
    """What there is to go on from, after what a killed writer left was put in order. A damaged
    checkpoint is put aside, with a warning, and the one before it takes its place. For the one
    process that writes there.
    """
    recover(folder)
    state: CheckpointState = "whole"
    for found in (folder, before(folder)):
        if not (found / STATE_FILE).is_file():
            continue
        try:
            check(found)
            json.loads((found / STATE_FILE).read_text(encoding="utf-8"))
            for name in TENSOR_FILES:
                load_file(found / name)
        except (OSError, ValueError, SafetensorError) as error:
            _put_aside(found, error)
            state = "earlier"
            continue
        if found != folder:
            found.replace(folder)
        return state
    return "none"


def _put_aside(folder: Path, error: Exception) -> None:
    aside = folder.with_name(f"{folder.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    folder.replace(aside)
    warnings.warn(
        f"A damaged checkpoint was put aside as '{aside}' ({error}); training goes on from the one "
        "before it, else from the start.",
        RuntimeWarning,
        stacklevel=3,
    )


def load_checkpoint(folder: Path, *, resume_key: str) -> Checkpoint:
    """Read a checkpoint folder. Raises ArtifactError where it is missing, damaged, of another
    format or of another configuration.
    """
    try:
        return _loaded(Path(folder), resume_key)
    except (Damaged, OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"'{folder}' is no whole checkpoint: {error}. Train on from the one before it: the "
            "same command, with --resume."
        ) from error


def _loaded(folder: Path, resume_key: str) -> Checkpoint:
    path = folder / STATE_FILE
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if state.pop("format", None) != FORMAT:
        raise ArtifactError(
            f"{path} has another format than {FORMAT}; it was written by another version."
        )
    stored = state.pop("resume_key")
    if stored != resume_key:
        raise ArtifactError(
            f"'{folder}' belongs to another configuration, to other documents or to another number "
            "of documents per optimizer step "
            "(training.micro_batch_size x training.gradient_accumulation_steps x ranks). Continue "
            "with the same settings and as many ranks, or start afresh in a new folder."
        )
    check(folder)
    state["history"] = tuple(state["history"])
    loss_sum, loss_terms = state.pop("since_evaluation", (0.0, 0))
    return Checkpoint(
        progress=Progress(**state),
        resume_key=stored,
        parameters=load_file(folder / "trainable.safetensors"),
        moments=load_file(folder / "optimizer.safetensors"),
        best=load_file(folder / "best.safetensors"),
        loss_sum=loss_sum,
        loss_terms=loss_terms,
    )
