"""Artifact format 1: a folder with JSON and safetensors that any tool can read; no pickle, no code.

The fact a newcomer gets wrong: a reparametrised prefix is stored materialised and loads as a plain
one; a folder that holds the reparametrisation's own tensors loads reparametrised.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.adapters.card import card
from components.adapters.methods import METHODS, MethodConfig
from components.adapters.model import AdaptedModel, adapt
from components.atomic_folder import atomic_folder
from components.backbones import family_of
from components.errors import ArtifactError, BackboneError, ConfigError
from components.settings import validate
from components.tasks import TaskHeadConfig, stored_task

FORMAT = 1
CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
CALIBRATION_FILE = "calibration.json"
CONTENT_SHA256 = "content_sha256"
"""Key of the tensor file's metadata: the checksum of what was written. A file that another tool
wrote has none, and is read as it is.
"""

_SHAPE: tuple[tuple[str, Any, str], ...] = (
    ("backbone", dict | None, "an object or null"),
    ("head", dict | None, "an object or null"),
    ("training", dict | None, "an object or null"),
    ("method", str | None, "the name of a method"),
)
"""Key of adapter_config.json, what it may hold, and that in words."""

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
        _check_finite(name, tensor)
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


def content_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Checksum of names, types, shapes and values, whatever their order in a file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_content(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get(CONTENT_SHA256)
    if expected not in (None, content_sha256(tensors)):
        raise ArtifactError(
            f"{path} is damaged: its values are not those that were written (their checksum "
            "differs). Take the adapter from where it came from again."
        )


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


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """The artifact's adapter_config.json. Raises ArtifactError where it is missing, broken or of a
    later format.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"'{folder}' holds no {CONFIG_FILE}. Give a folder written by save_adapter."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not readable as JSON: {error}") from error
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read: {error.strerror}. Give a folder written by save_adapter."
        ) from error
    if not isinstance(config, dict):
        raise ArtifactError(
            f"{path} holds {type(config).__name__}, expected a JSON object. Give a folder written "
            "by save_adapter."
        )
    for name, kinds, expected in _SHAPE:
        if not isinstance(config.get(name), kinds):
            raise ArtifactError(
                f"{path}: {name} is {json.dumps(config[name])}, expected {expected}."
            )
    if config.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} has format {config.get('format')!r}; this version reads format {FORMAT}. Use "
            "a newer prefixprop."
        )
    return config


def load_adapter(backbone: nn.Module, folder: str | Path) -> AdaptedModel:
    """The adapted model of an artifact folder around a loaded backbone, in evaluation mode.

    Raises ArtifactError: a broken folder, another backbone than the one trained on (the differing
    settings are named), wrong shapes, values that are not finite.
    """
    config = read_adapter_config(folder)
    _check_backbone(config.get("backbone") or {}, backbone)
    tensors = _read_tensors(Path(folder) / TENSOR_FILE)
    adapter_config, head_config = _configs(config, tensors, folder)
    for name, tensor in tensors.items():
        _check_finite(name, tensor)
    try:
        model = adapt(backbone, adapter_config, head_config)
    except BackboneError as error:
        raise ArtifactError(f"'{folder}' does not fit this backbone: {error}") from error
    for name in tensors:
        if name.startswith("backbone."):
            _train(model, name.removeprefix("backbone."))
    _copy_into(model, tensors)
    _check_content(Path(folder) / TENSOR_FILE, tensors)
    return model.eval()


def _configs(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: str | Path
) -> tuple[MethodConfig, TaskHeadConfig]:
    method, head = config.get("method", "prefix_propagation"), config.get("head") or {}
    if method not in METHODS:
        raise ArtifactError(
            f"'{folder}' has method {method!r}, which this version does not know. Known: "
            f"{', '.join(METHODS)}. Use a newer prefixprop."
        )
    model, head_model = METHODS[method], stored_task(config).head
    shapes = {
        name.removeprefix("adapter."): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name.startswith("adapter.")
    }
    stored = {name: config[name] for name in model.model_fields if name in config}
    own = model.completed(stored | {"method": method}, shapes)
    fields = {name: head[name] for name in head_model.model_fields if name in head}
    try:
        return validate(model, own), validate(head_model, fields)
    except ConfigError as error:
        raise ArtifactError(f"{Path(folder) / CONFIG_FILE}: {error}") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"'{path.parent}' holds no {path.name}: the adapter is incomplete."
        ) from error
    except SafetensorError as error:
        raise ArtifactError(f"{path} is not readable as safetensors: {error}") from error


def _check_backbone(stored: Mapping[str, Any], backbone: nn.Module) -> None:
    family = family_of(backbone).name
    if stored.get("family") not in (None, family):
        raise ArtifactError(
            f"The adapter was trained on a {stored['family']} backbone, this one is {family}."
        )
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


def _copy_into(model: AdaptedModel, tensors: Mapping[str, Tensor]) -> None:
    expected = model.trainable_parameters()
    missing = sorted(
        name for name in expected if name not in tensors and not name.startswith("backbone.")
    )
    unknown = sorted(set(tensors) - set(expected))
    if missing or unknown:
        raise ArtifactError(
            f"{TENSOR_FILE} does not fit: missing {', '.join(missing) or 'nothing'}; unknown "
            f"{', '.join(unknown) or 'nothing'}."
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ArtifactError(
                f"{name} has shape {tuple(tensor.shape)}; this backbone and adapter_config.json "
                f"need {tuple(expected[name].shape)}."
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            expected[name].copy_(tensor)


def _train(model: AdaptedModel, name: str) -> None:
    try:
        model.train_in_backbone(name)
    except AttributeError as error:
        raise ArtifactError(
            f"{TENSOR_FILE} holds backbone.{name}, which this backbone does not have."
        ) from error


def _check_finite(name: str, tensor: Tensor) -> None:
    if tensor.numel() == 0:
        raise ArtifactError(f"{name} is empty: it was not gathered from its ZeRO shards.")
    if not torch.isfinite(tensor).all():
        raise ArtifactError(f"{name} holds values that are not finite: the adapter diverged.")
