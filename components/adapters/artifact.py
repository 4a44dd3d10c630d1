"""Artifact format 1: a folder with JSON and safetensors that any tool can read; no pickle, no code.

The fact a newcomer gets wrong: a reparametrised prefix is stored materialised and loads as a plain
one; a folder that holds the reparametrisation's own tensors loads reparametrised.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from components.adapters.card import card
from components.adapters.methods import MethodConfig
from components.adapters.model import AdaptedModel, assemble
from components.adapters.reading import (
    CONFIG_FILE,
    CONTENT_SHA256,
    FORMAT,
    TENSOR_FILE,
    check_finite,
    check_values,
    checked_settings,
    content_sha256,
    read_adapter_config,
    tensors_of,
)
from components.atomic_folder import atomic_folder
from components.backbones import backbone_shape, family_of, kind_in_memory
from components.backbones.quantization import READ_PLAIN
from components.errors import ArtifactError, BackboneError, ConfigError
from components.foreign_file import StoredTensor
from components.tasks import TaskHeadConfig

# What decides a backbone's function besides its weights and what its family adds; other keys of
# config.json change between transformers versions.
STRUCTURE = (
    "model_type hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "intermediate_size hidden_act vocab_size "
    "max_position_embeddings type_vocab_size pad_token_id layer_norm_eps"
).split()


def save_adapter(
    model: AdaptedModel,
    folder: str | Path,
    *,
    training: Mapping[str, Any] | None = None,
    backbone_id: Mapping[str, Any] | None = None,
) -> Path:
    """Write a live model's adapter as format 1, atomically; returns the folder.

    `training`: {"config_sha256", "data_fingerprint", "code_version", ...}; `backbone_id`: fields
    that override name_or_path, revision and add others. Raises ArtifactError where a tensor is
    empty or not finite.
    """
    return write_artifact(
        folder,
        model.artifact_tensors(),
        adapter_config=model.adapter_config,
        head_config=model.head_config,
        backbone_info=describe_backbone(model.backbone, backbone_id),
        training=training,
    )


def write_artifact(
    folder: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    adapter_config: MethodConfig,
    head_config: TaskHeadConfig,
    backbone_info: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write gathered tensors (see AdaptedModel.artifact_tensors) as format 1, atomically; an
    earlier artifact in the same place is replaced.
    """
    folder = Path(folder)
    if not folder.name:  # ".": a folder without a name of its own cannot be replaced
        folder = folder.resolve()
    if folder.is_file():
        raise ArtifactError(f"'{folder}' is a file. Give a new folder: nothing was written.")
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG_FILE).is_file():
        raise ArtifactError(
            f"'{folder}' is not empty and holds no adapter. Give a new folder: nothing was written."
        )
    for name, tensor in tensors.items():
        check_finite(name, tensor)
    config = {
        "format": FORMAT,
        "method": adapter_config.method,
        **json.loads(adapter_config.model_dump_json(exclude=set(adapter_config.not_stored))),
        "backbone": dict(backbone_info),
        "head": {"task": head_config.task, **json.loads(head_config.model_dump_json())},
        "training": dict(training or {}),
    }
    with atomic_folder(folder) as temporary:
        (temporary / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary / TENSOR_FILE,
            metadata={"format": "pt", CONTENT_SHA256: content_sha256(tensors)},
        )
        (temporary / "README.md").write_text(card(config, tensors), encoding="utf-8")
    return folder


def describe_backbone(
    backbone: nn.Module, identity: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The artifact's `backbone` section: where it came from, its family, and a hash of its
    structure.
    """
    structure = backbone_structure(backbone)
    return {
        "name_or_path": getattr(backbone.config, "_name_or_path", "") or None,
        "revision": getattr(backbone.config, "_commit_hash", None),
        "family": family_of(backbone).name,
        "config_sha256": structure_sha256(structure),
        "structure": structure,
        "quantization": _kind(backbone),
        **(identity or {}),
    }


def backbone_structure(backbone: nn.Module) -> dict[str, Any]:
    """The part of the backbone's config that its function depends on."""
    values: dict[str, Any] = backbone.config.to_dict()  # type: ignore[union-attr, operator]
    names = (*STRUCTURE, *family_of(backbone).structure)
    structure = {name: values[name] for name in names if values.get(name) is not None}
    rotary = values.get("rope_parameters") or {}
    return structure | {
        f"rope_{name.removeprefix('rope_')}": value
        for name, value in sorted(rotary.items())
        if value is not None
    }


def structure_sha256(structure: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(structure, sort_keys=True).encode()).hexdigest()


def load_adapter(backbone: nn.Module, folder: str | Path) -> AdaptedModel:
    """The adapted model of an artifact folder around a loaded backbone, in evaluation mode.

    Nothing in the folder is believed: names, shapes and dtypes are compared by the header, before
    anything is built or read. Raises ArtifactError: a broken folder, another backbone than the one
    trained on (the differing settings are named), wrong shapes, backbone weights that its method
    does not train, values that are not finite.
    """
    config = read_adapter_config(folder)
    _check_backbone(config.get("backbone") or {}, backbone)
    values: dict[str, Any] = backbone.config.to_dict()  # type: ignore[union-attr, operator]
    adapter, head, tensors = checked_settings(config, folder, backbone_shape(values))
    # All of it before the backbone is touched: what is refused leaves the adapter before it alone.
    check_values(folder)
    try:
        model = assemble(backbone, adapter, head)
    except (BackboneError, ConfigError) as error:
        raise ArtifactError(f"'{folder}' does not fit this backbone: {error}") from error
    for name in tensors:
        if name.startswith("backbone."):
            _train(model, name.removeprefix("backbone."))
    expected = _checked_shapes(model, tensors)
    with torch.no_grad():
        for name, tensor in tensors_of(folder):
            expected[name].copy_(tensor)
    return model.eval()


def _check_backbone(stored: Mapping[str, Any], backbone: nn.Module) -> None:
    family = family_of(backbone).name
    if stored.get("family") not in (None, family):
        raise ArtifactError(
            f"The adapter was trained on a {stored['family']} backbone, this one is {family}."
        )
    _tell_of_quantization(stored, backbone)
    structure = backbone_structure(backbone)
    if stored.get("config_sha256") in (None, structure_sha256(structure)):
        return
    known = stored.get("structure")
    if not isinstance(known, dict):
        known = {}
    # An older version wrote fewer settings: only those that it knew can tell a difference.
    if (
        known
        and stored["config_sha256"] == structure_sha256(known)
        and all(structure.get(name) == value for name, value in known.items())
    ):
        return
    differing = [
        f"{name}: {value} then, {structure.get(name)} here"
        for name, value in known.items()
        if value != structure.get(name)
    ]
    raise ArtifactError(
        f"The adapter was trained on another backbone ({stored.get('name_or_path')}): "
        + ("; ".join(differing) or "its config hash differs")
        + ". Load the backbone it names."
    )


def _kind(backbone: nn.Module) -> str | None:
    return kind_in_memory(backbone.config.to_dict())  # type: ignore[union-attr, operator]


def _tell_of_quantization(stored: Mapping[str, Any], backbone: nn.Module) -> None:
    """Warn where the adapter was trained on other numbers of the same weights: people load such
    adapters on purpose, and whoever does not shall know.
    """
    here = _kind(backbone)
    then = stored.get("quantization")
    if not isinstance(then, str | None):
        raise ArtifactError("backbone.quantization is no text. Get the adapter again.")
    then = None if then in READ_PLAIN else then
    if "quantization" in stored and then != here:
        warnings.warn(
            f"the backbone that the adapter was trained on was {_quantised(then)}, and this one is "
            f"{_quantised(here)}: its answers and probabilities are not those that were measured. "
            "Load the backbone as it was then (backbone.load in adapter_config.json).",
            stacklevel=3,
        )


def _quantised(kind: str | None) -> str:
    return "not quantised" if kind is None else f"quantised ({kind})"


def _checked_shapes(
    model: AdaptedModel, tensors: Mapping[str, StoredTensor]
) -> dict[str, nn.Parameter]:
    """The parameters that the file's tensors go into, by name."""
    expected = model.trainable_parameters()
    missing = sorted(
        name for name in expected if name not in tensors and not name.startswith("backbone.")
    )
    unknown = sorted(set(tensors) - set(expected))
    if missing or unknown:
        raise ArtifactError(
            f"{TENSOR_FILE} does not fit: missing {_some(missing)}; unknown {_some(unknown)}."
        )
    for name, tensor in tensors.items():
        if tensor.shape != tuple(expected[name].shape):
            raise ArtifactError(
                f"{name} has shape {tensor.shape}; this backbone and adapter_config.json need "
                f"{tuple(expected[name].shape)}."
            )
    return expected


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "nothing"


def _train(model: AdaptedModel, name: str) -> None:
    """A weight of the backbone that the folder brings: only one that its method trains."""
    names = {each for each, _ in model.backbone.named_parameters()}
    if name not in names:
        raise ArtifactError(
            f"{TENSOR_FILE} holds backbone.{name}, which this backbone does not have."
        )
    method = model.adapter_config
    with_prefix = model.family.trained_with_prefix if method.trains_with_prefix else ()
    if name not in (*model.trained_in_backbone, *with_prefix):
        raise ArtifactError(
            f"{TENSOR_FILE} holds backbone.{name}, which {method.method} does not train: the "
            "backbone's own weights stay as they are. Get the adapter again."
        )
    model.train_in_backbone(name)
