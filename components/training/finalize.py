"""From a trial's best evaluation to an adapter artifact with test metrics and calibration. Run once
per search, by the ranks that still hold the backbone.
"""

import json
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from components.adapters import write_artifact
from components.adapters.artifact import describe_backbone
from components.adapters.reading import CALIBRATION_FILE
from components.atomic_file import atomic_file
from components.backbones import (
    checkpoint_folder,
    quantization_of,
    read_backbone_config,
    weights_sha256,
)
from components.checksums import seal
from components.config import TrainConfig, config_sha256, resolved
from components.config.training import TrainingConfig
from components.data.prepared import PreparedData
from components.errors import BackboneError
from components.tasks import task_named
from components.training.checkpoint import load_checkpoint, resume_key
from components.training.engine import Engine
from components.training.evaluation import split_outputs
from components.training.kept_states import kept_states
from components.training.outcomes import FinalEvaluation, of_all_documents
from components.training.session import Session
from components.training.state_store import StateStore

PREDICTIONS_FILE = "predictions.npz"
COMMIT = re.compile("[0-9a-f]{40}")


def finalize(
    session: Session,
    data: PreparedData,
    config: TrainConfig,
    *,
    checkpoint_folder: Path,
    artifact_folder: Path,
    code_version: str,
    training: TrainingConfig | None = None,
    ranks: int | None = None,
) -> FinalEvaluation:
    """Evaluate the best adapter of a checkpoint on all validation and test documents and write it
    as artifact format 1. Called by every rank together.

    What is fitted to outputs (a temperature) is fitted on validation data only. `training`: how
    documents are cut into micro-batches, where `config` took too much memory. `ranks`: see
    run_trial.
    """
    key = resume_key(config, data.fingerprint, world_size=ranks or session.world.size)
    best, task = (
        load_checkpoint(checkpoint_folder, resume_key=key).best,
        task_named(config.data.task),
    )
    as_stored = config.model_copy(update={"adapter": config.adapter.as_stored()})
    with session.engine(as_stored, data.labels, parameters=best) as (model, engine):
        outputs, seconds = _outputs(
            session,
            engine,
            data,
            config,
            training or config.training,
            states=kept_states(session, config, model, data),
        )
        head_config, trainable_parameters = model.head_config, model.num_trainable_parameters()
    conclusion = task.concluded(outputs, data.splits)
    if session.world.is_main:
        predictions = checkpoint_folder.parent / PREDICTIONS_FILE
        temperature = conclusion.calibration.get("temperature")
        columns = tuple(task.columns)
        save_predictions(predictions, data, outputs, columns=columns, temperature=temperature)
        write_artifact(
            artifact_folder,
            best,
            adapter_config=config.adapter,
            head_config=head_config,
            backbone_info=describe_backbone(session.backbone, _backbone_identity(config)),
            training=_training_section(
                config, data.fingerprint, code_version, precision=session.precision
            ),
        )
        _write_beside(artifact_folder, session.tokenizer, conclusion.calibration)
    session.world.barrier()
    return FinalEvaluation(
        folder=artifact_folder,
        metrics=of_all_documents(conclusion.metrics),
        calibration=conclusion.calibration,
        reliability=conclusion.reliability,
        by_length=conclusion.by_length,
        trainable_parameters=trainable_parameters,
        head_parameters=_head_parameters(best),
        seconds_per_document=seconds / len(data.splits["test"]),
    )


def _head_parameters(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("head."))


def _write_beside(folder: Path, tokenizer: Any, calibration: Mapping[str, Any]) -> None:
    """What `predict` needs besides the artifact, and the checksums of it: adapter_config.json may
    be edited by hand, and the tensors have a checksum of their own.
    """
    tokenizer.save_pretrained(folder / "tokenizer")
    beside = [f"tokenizer/{path.name}" for path in (folder / "tokenizer").iterdir()]
    if calibration:
        text = json.dumps(calibration, indent=2) + "\n"
        (folder / CALIBRATION_FILE).write_text(text, encoding="utf-8")
        beside.append(CALIBRATION_FILE)
    seal(folder, beside)


def _outputs(
    session: Session,
    engine: Engine,
    data: PreparedData,
    config: TrainConfig,
    training: TrainingConfig,
    *,
    states: StateStore | None,
) -> tuple[dict[str, Any], float]:
    """What the task keeps of the answers to all validation and test documents, and the seconds that
    the latter took.
    """
    outputs: dict[str, Any] = {}
    for name in ("validation", "test"):
        started = time.monotonic()
        outputs[name] = split_outputs(
            engine.deepspeed,
            data.splits[name],
            np.arange(len(data.splits[name])),
            task=task_named(config.data.task),
            config=training,
            world=session.world,
            pad_token_id=session.pad_token_id,
            states=states,
        )
    return outputs, time.monotonic() - started


def _backbone_identity(config: TrainConfig) -> dict[str, Any]:
    """Where the backbone came from, to the commit, and the hash of its weights; without a hash
    where its files are gone meanwhile: the trained adapter is not lost for that.
    """
    load = resolved(config.backbone)
    digest = quantization = None
    try:
        quantization = quantization_of(read_backbone_config(config.backbone))
        folder, digest = checkpoint_folder(config.backbone), weights_sha256(config.backbone)
    except BackboneError as error:
        warnings.warn(f"no hash of the backbone's weights is recorded: {error}", stacklevel=2)
    else:
        if config.backbone.source == "hub" and COMMIT.fullmatch(folder.name):
            load["revision"] = folder.name
    return {
        "name_or_path": config.backbone.name_or_path,
        "revision": load["revision"],
        "load": load,
        "weights_sha256": digest,
        "quantization": None if quantization is None else quantization.kind,
    }


def _training_section(
    config: TrainConfig, data_fingerprint: str, code_version: str, *, precision: str
) -> dict[str, Any]:
    """Where the adapter came from, and how documents are to be cut for it."""
    return {
        "config_sha256": config_sha256(config),
        "data_fingerprint": data_fingerprint,
        "code_version": code_version,
        "max_tokens": config.data.max_tokens,
        "precision": precision,
        **task_named(config.data.task).cutting(config.data),
    }


def save_predictions(
    file: Path,
    data: PreparedData,
    outputs: Mapping[str, Any],
    *,
    columns: tuple[str, ...],
    temperature: float | None,
) -> None:
    """Write what paired tests and diagrams need, as .npz: for validation and test `<split>_logits`
    (N, C), what is learnt (`_label_ids`), `_lengths` (tokens before the cut) and `_ids` (N,), and
    the fitted `temperature` where there is one.
    """
    arrays: dict[str, Any] = {} if temperature is None else {"temperature": np.float64(temperature)}
    for name, outputs_NC in outputs.items():
        split = data.splits[name]
        arrays |= {f"{name}_logits": outputs_NC, f"{name}_lengths": split.full_lengths}
        arrays |= {f"{name}_{column}s": split.column(column) for column in columns}
        arrays[f"{name}_ids"] = np.array(split.ids)
    with atomic_file(file) as unfinished:
        np.savez_compressed(unfinished, **arrays)
