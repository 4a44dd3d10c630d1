"""The resumable checkpoint of a trial: a few MB, independent of world size and ZeRO stage, written whole or not at all.

Folder: `state.json` (numbers a person can read), `trainable.safetensors` (trained parameters), `optimizer.safetensors` (AdamW's moments), `best.safetensors` (artifact tensors of the best evaluation).
No random state is stored: data order and dropout are functions of (seed, epoch, step, rank).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from components.atomic_folder import atomic_folder
from components.errors import ArtifactError

FORMAT = 1


@dataclass(frozen=True)
class Progress:
    """Where a trial stands. `tokens`: text tokens trained on, padding and prefix excluded; `seconds`: training time, evaluation included."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluations: int = 0
    best_evaluation: int = 0
    best_metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a trial resumes from."""

    progress: Progress
    config_sha256: str
    parameters: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    best: Mapping[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write (or replace) a checkpoint folder atomically. Raises AssertionError where a tensor is empty or not finite."""
    for name, tensor in {**checkpoint.parameters, **checkpoint.moments}.items():
        assert tensor.numel() > 0 and bool(torch.isfinite(tensor).all()), f"{name} is empty or not finite; the last good checkpoint stays"
    with atomic_folder(folder) as temporary:
        state = {"format": FORMAT, "config_sha256": checkpoint.config_sha256, **asdict(checkpoint.progress)}
        (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        save_file(dict(checkpoint.parameters), temporary / "trainable.safetensors")
        save_file(dict(checkpoint.moments), temporary / "optimizer.safetensors")
        save_file(dict(checkpoint.best), temporary / "best.safetensors")


def load_checkpoint(folder: Path, *, config_sha256: str) -> Checkpoint:
    """Read a checkpoint folder. Raises ArtifactError where it is missing, of another format or of another configuration."""
    path = Path(folder) / "state.json"
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"'{folder}' is no checkpoint: {error}") from error
    if state.pop("format", None) != FORMAT:
        raise ArtifactError(f"{path} has another format than {FORMAT}; it was written by another version.")
    stored = state.pop("config_sha256")
    if stored != config_sha256:
        raise ArtifactError(f"'{folder}' belongs to another configuration ({stored[:12]}, this one is {config_sha256[:12]}). Start afresh in a new folder.")
    state["history"] = tuple(state["history"])
    return Checkpoint(
        progress=Progress(**state),
        config_sha256=stored,
        parameters=load_file(folder / "trainable.safetensors"),
        moments=load_file(folder / "optimizer.safetensors"),
        best=load_file(folder / "best.safetensors"),
    )
