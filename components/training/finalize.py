"""From a trial's best evaluation to an adapter artifact with test metrics and calibration. Run once
per search, by the ranks that still hold the backbone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from components.adapters import write_artifact
from components.adapters.artifact import CALIBRATION_FILE, describe_backbone
from components.atomic_file import atomic_file
from components.config import TrainConfig, config_sha256, resolved
from components.config.loading import set_path, validate
from components.data.prepared import PreparedData
from components.evaluation import (
    by_document_length,
    calibration_report,
    reliability_diagram,
    softmax,
)
from components.training.checkpoint import load_checkpoint, resume_key
from components.training.evaluation import metrics_of, split_logits
from components.training.outcomes import FinalEvaluation
from components.training.session import Session

PREDICTIONS_FILE = "predictions.npz"


def finalize(
    session: Session,
    data: PreparedData,
    config: TrainConfig,
    *,
    checkpoint_folder: Path,
    artifact_folder: Path,
    code_version: str,
) -> FinalEvaluation:
    """Evaluate the best adapter of a checkpoint on all validation and test documents and write it
    as artifact format 1. Called by every rank together.

    The temperature is fitted on validation data only.
    """
    best = load_checkpoint(
        checkpoint_folder,
        resume_key=resume_key(config, data.fingerprint, world_size=session.world.size),
    ).best
    with session.engine(_with_plain_prefix(config), data.labels, parameters=best) as (
        model,
        engine,
    ):
        logits = {}
        for name in ("validation", "test"):
            split = data.splits[name]
            rows = np.arange(len(split))
            logits[name] = split_logits(
                engine.deepspeed,
                split,
                rows,
                config=config.training,
                world=session.world,
                pad_token_id=session.pad_token_id,
            )
        head_config, trainable_parameters = model.head_config, model.num_trainable_parameters()
    task = config.data.task
    metrics: dict[str, float] = {}
    for name in logits:
        metrics |= metrics_of(logits[name], data.splits[name].label_ids, prefix=name, task=task)
    calibration = calibration_report(logits["validation"], data.splits["validation"].label_ids)
    calibrated, test_labels = (
        logits["test"] / calibration["temperature"],
        data.splits["test"].label_ids,
    )
    for name, value in metrics_of(
        calibrated, test_labels, prefix="test_calibrated", task=task
    ).items():
        if name.rpartition("/")[2] in (
            "nll",
            "brier",
            "ece",
            "mce",
            "adaptive_ece",
            "ece_upper_edge_10",
        ):
            metrics[name] = value
    if session.world.is_main:
        save_predictions(
            checkpoint_folder.parent / PREDICTIONS_FILE,
            data,
            logits,
            temperature=calibration["temperature"],
        )
        identity = {
            "name_or_path": config.backbone.name_or_path,
            "revision": config.backbone.revision,
            "load": resolved(config.backbone),
        }
        training = {
            "config_sha256": config_sha256(config),
            "data_fingerprint": data.fingerprint,
            "code_version": code_version,
            "max_tokens": config.data.max_tokens,
            "precision": config.training.precision,
        }
        if config.data.qangaroo is not None:
            training["max_chunks"] = config.data.qangaroo.max_chunks
        write_artifact(
            artifact_folder,
            best,
            adapter_config=config.adapter,
            head_config=head_config,
            backbone_info=describe_backbone(session.backbone, identity),
            training=training,
        )
        session.tokenizer.save_pretrained(artifact_folder / "tokenizer")
        (artifact_folder / CALIBRATION_FILE).write_text(
            json.dumps(calibration, indent=2) + "\n", encoding="utf-8"
        )
    session.world.barrier()
    head_parameters = sum(
        tensor.numel() for name, tensor in best.items() if name.startswith("head.")
    )
    return FinalEvaluation(
        folder=artifact_folder,
        metrics=metrics,
        calibration=calibration,
        reliability=reliability_diagram(softmax(calibrated), test_labels),
        by_length=by_document_length(softmax(calibrated), test_labels, data.splits["test"].tokens),
        trainable_parameters=trainable_parameters,
        head_parameters=head_parameters,
    )


def save_predictions(
    file: Path, data: PreparedData, logits: Mapping[str, Any], *, temperature: float
) -> None:
    """Write what paired tests and diagrams need, as .npz: for validation and test `<split>_logits`
    (N, C), `_label_ids`, `_lengths` (tokens) and `_ids` (N,), and the fitted `temperature`.
    """
    arrays: dict[str, Any] = {"temperature": np.float64(temperature)}
    for name, logits_NC in logits.items():
        split = data.splits[name]
        arrays |= {
            f"{name}_logits": logits_NC,
            f"{name}_label_ids": split.label_ids,
            f"{name}_lengths": split.tokens,
        }
        arrays[f"{name}_ids"] = np.array(split.ids)
    with atomic_file(file) as unfinished:
        np.savez_compressed(unfinished, **arrays)


def _with_plain_prefix(config: TrainConfig) -> TrainConfig:
    """Stored prefixes are materialised: evaluate them without the reparametrisation."""
    values = resolved(config)
    if "reparametrization" in values["adapter"]:
        set_path(values, "adapter.reparametrization", "none")
    return validate(TrainConfig, values)
