"""What is done where memory did not suffice: half the documents in a micro-batch, twice the
micro-batches. An optimizer step keeps its documents, so the numbers stay (the laws of
components/training).

What sufficed is remembered beside the jobs' folders, for all that need as much memory: the next
training of the same size does not try what failed before.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.atomic_file import read_state, write_state
from components.config.experiment import TrainConfig
from components.config.hashes import hashed_settings
from components.config.training import TrainingConfig
from components.jobs.events import Failed
from components.jobs.job import Job

KEEPING = (
    "precision",
    "gradient_checkpointing",
    "offload_activations",
    "feed_forward_tile_rows",
)
"""What decides how much of a micro-batch is kept."""
REMEMBERED_FILE = "micro_batches.json"
SAYINGS = ("out of memory", "can't allocate memory", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is torch's or the system's word for it."""
    named = type(error).__name__ in ("OutOfMemoryError", "MemoryError")
    return named or any(saying in str(error) for saying in SAYINGS)


def smaller(job: Job) -> Job | None:
    """The same job in micro-batches of half as many documents, or of fewer still where half does
    not divide them; None where they hold one document each. It is remembered.
    """
    training = job.training or job.config.training
    if training.micro_batch_size == 1:
        return None
    limit = training.tokens_per_batch
    cut = _cut(training, training.micro_batch_size // 2, limit and max(1, limit // 2))
    _remember(job, cut)
    return replace(job, training=cut)


def fitting(job: Job) -> Job:
    """The job in micro-batches of the size that sufficed before, where there is word of it."""
    known = _remembered(_file(job)).get(_size(job.config))
    if not isinstance(known, dict):
        return job
    training = job.config.training
    limits = [each for each in (training.tokens_per_batch, known["tokens_per_batch"]) if each]
    wanted = min(training.micro_batch_size, known["micro_batch_size"])
    return replace(job, training=_cut(training, wanted, min(limits, default=None)))


def infeasible(failed: Failed) -> Failed:
    """The failure of a job whose single documents did not fit, with what can be done."""
    return replace(
        failed,
        reason=(
            f"a single document does not fit into memory ({failed.reason}); lower data.max_tokens "
            "or adapter.prefix_length, set training.gradient_checkpointing (then "
            "training.offload_activations on GPUs, training.feed_forward_tile_rows), or give more "
            "memory"
        ),
    )


def _cut(training: TrainingConfig, wanted: int, limit: int | None) -> TrainingConfig:
    """At most `wanted` documents in a micro-batch, as many in a step as before."""
    documents = training.micro_batch_size * training.gradient_accumulation_steps
    micro = next(each for each in range(wanted, 0, -1) if documents % each == 0)
    changes = {
        "micro_batch_size": micro,
        "gradient_accumulation_steps": documents // micro,
        "tokens_per_batch": limit,
    }
    return training.model_copy(update=changes)


def _size(config: TrainConfig) -> str:
    """Hash of what decides how much memory a micro-batch takes, its cutting left out."""
    values = hashed_settings(config)
    training = {name: value for name, value in values["training"].items() if name in KEEPING}
    needs: dict[str, Any] = {name: values[name] for name in ("backbone", "adapter", "head", "zero")}
    needs |= {"training": training, "max_tokens": values["data"]["max_tokens"]}
    return hashlib.sha256(json.dumps(needs, sort_keys=True).encode()).hexdigest()


def _file(job: Job) -> Path:
    return job.folder.parent / REMEMBERED_FILE


def _remember(job: Job, training: TrainingConfig) -> None:
    """Several trials may write at once; what one of them loses it finds out again."""
    known = _remembered(_file(job))
    known[_size(job.config)] = {
        "micro_batch_size": training.micro_batch_size,
        "tokens_per_batch": training.tokens_per_batch,
    }
    write_state(_file(job), known)


def _remembered(file: Path) -> dict[str, Any]:
    try:
        return read_state(file)
    except (OSError, ValueError):  # none yet, or damaged: it is found out again
        return {}
