"""The resumable checkpoint of a trial: a few MB, independent of world size and ZeRO stage, written
whole or not at all.

Folder: `state.json` (numbers a person can read), `trainable.safetensors` (trained parameters),
`optimizer.safetensors` (AdamW's moments), `best.safetensors` (artifact tensors of the best
evaluation). No random state is stored: data order and dropout are functions of (seed, epoch, step,
rank).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.atomic_folder import atomic_folder
from components.config import TrainConfig
from components.config.hashes import hashed_settings
from components.errors import ArtifactError
from components.training.outcomes import Progress

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a trial resumes from."""

    progress: Progress
    resume_key: str
    parameters: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    best: Mapping[str, Tensor]


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
    with atomic_folder(folder) as temporary:
        state = {
            "format": FORMAT,
            "resume_key": checkpoint.resume_key,
            **asdict(checkpoint.progress),
        }
        (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        save_file(dict(checkpoint.parameters), temporary / "trainable.safetensors")
        save_file(dict(checkpoint.moments), temporary / "optimizer.safetensors")
        save_file(dict(checkpoint.best), temporary / "best.safetensors")


def load_checkpoint(folder: Path, *, resume_key: str) -> Checkpoint:
    """Read a checkpoint folder. Raises ArtifactError where it is missing, of another format or of
    another configuration.
    """
    path = Path(folder) / "state.json"
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"'{folder}' is no checkpoint: {error}") from error
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
    state["history"] = tuple(state["history"])
    return Checkpoint(
        progress=Progress(**state),
        resume_key=stored,
        parameters=load_file(folder / "trainable.safetensors"),
        moments=load_file(folder / "optimizer.safetensors"),
        best=load_file(folder / "best.safetensors"),
    )
