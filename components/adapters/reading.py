"""An adapter folder that somebody else may have written: JSON, the header of its tensors, then the
tensors, each believed only after the one before it was checked.

The fact a newcomer gets wrong: a file's size and a number of labels cost their author nothing. So
names, shapes and dtypes are compared before any module is built or any tensor is read.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from components.adapters.methods import METHODS, MethodConfig
from components.backbones import BackboneShape
from components.errors import ArtifactError, ConfigError
from components.foreign_file import (
    ForeignFileError,
    StoredTensor,
    open_foreign,
    read_json,
    stored_tensors,
)
from components.settings import validate
from components.tasks import HeadForm, TaskHeadConfig, stored_task

FORMAT = 1
CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
CONTENT_SHA256 = "content_sha256"
"""Key of the tensor file's metadata: the checksum of what was written. A file that another tool
wrote has none, and is read as it is.
"""
CALIBRATION_FILE = "calibration.json"
TOKENIZER_FOLDER = "tokenizer"

READ_DTYPES = ("F32", "F16", "BF16", "F64")
SLACK = 1_000_000
"""Numbers by which a configuration may differ from its tensors before it is refused unbuilt: what
is this small is built, and named tensor by tensor.
"""

_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("backbone", dict | None, "an object or null"),
    ("head", dict | None, "an object or null"),
    ("training", dict | None, "an object or null"),
    ("method", str | None, "the name of a method"),
)
"""Key of adapter_config.json, what it may hold, and that in words."""


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """The artifact's adapter_config.json. Raises ArtifactError where it is missing, broken or of a
    later format, and where a file of the folder is none that can be read.
    """
    path = Path(folder) / CONFIG_FILE
    try:
        config: dict[str, Any] = read_json(path)
        _check_files(Path(folder))
    except FileNotFoundError as error:
        raise ArtifactError(
            f"'{folder}' holds no {CONFIG_FILE}. Give a folder written by save_adapter."
        ) from error
    except ForeignFileError as error:
        raise ArtifactError(f"{path} {error}. Give a folder written by save_adapter.") from error
    if not isinstance(config, dict):
        raise ArtifactError(
            f"{path} holds {type(config).__name__}, expected a JSON object. Give a folder written "
            "by save_adapter."
        )
    for name, kinds, expected in _KINDS:
        if not isinstance(config.get(name), kinds):
            raise ArtifactError(
                f"{path}: {name} is {json.dumps(config[name])[:100]}, expected {expected}."
            )
    if config.get("format") != FORMAT:
        raise ArtifactError(
            f"{path} has format {json.dumps(config.get('format'))[:100]}; this version reads "
            f"format {FORMAT}. Use a newer prefixprop."
        )
    return config


def _check_files(folder: Path) -> None:
    """Other libraries read the tokenizer's files, and would wait for a named pipe."""
    tokenizer = folder / TOKENIZER_FOLDER
    beside = [folder / TENSOR_FILE, folder / CALIBRATION_FILE]
    for path in (*beside, *(tokenizer.iterdir() if tokenizer.is_dir() else ())):
        try:
            open_foreign(path).close()
        except FileNotFoundError:
            if path.is_symlink():
                raise ArtifactError(f"{path} is a link to nothing.") from None
        except ForeignFileError as error:
            if not (path.parent == tokenizer and path.is_dir()):
                raise ArtifactError(f"{path} {error}.") from error


def read_header(folder: str | Path) -> dict[str, StoredTensor]:
    """What the artifact's tensor file holds, none of it read. Raises ArtifactError where it is
    missing or broken, or holds a tensor that is no float.
    """
    path = Path(folder) / TENSOR_FILE
    try:
        tensors = stored_tensors(path)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"'{path.parent}' holds no {path.name}: the adapter is incomplete."
        ) from error
    except ForeignFileError as error:
        raise ArtifactError(f"{path} {error}.") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in READ_DTYPES:
            raise ArtifactError(
                f"{path}: {name} is {tensor.dtype}, expected one of {', '.join(READ_DTYPES)}."
            )
        if tensor.numbers == 0:
            raise ArtifactError(f"{path}: {name} is empty.")
    return tensors


def checked_settings(
    config: Mapping[str, Any], folder: str | Path, shape: BackboneShape
) -> tuple[MethodConfig, TaskHeadConfig, dict[str, StoredTensor]]:
    """Method, head and the header of the tensors of an artifact with this adapter_config.json, for
    a backbone of this shape: all that can be told before anything is built. Raises ArtifactError.
    """
    tensors = read_header(folder)
    adapter, head = _stored_settings(config, tensors, folder)
    _check_amount(adapter, head, shape, tensors)
    return adapter, head, tensors


def _stored_settings(
    config: Mapping[str, Any], tensors: Mapping[str, StoredTensor], folder: str | Path
) -> tuple[MethodConfig, TaskHeadConfig]:
    """Method and head, completed by what only the tensors tell."""
    method, head = config.get("method", "prefix_propagation"), config.get("head") or {}
    if method not in METHODS:
        raise ArtifactError(
            f"'{folder}' has method {method!r}, which this version does not know. Known: "
            f"{', '.join(METHODS)}. Use a newer prefixprop."
        )
    model, head_model = METHODS[method], stored_task(config).head
    shapes = {
        name.removeprefix("adapter."): tensor.shape
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


def _check_amount(
    adapter: MethodConfig,
    head: TaskHeadConfig,
    shape: BackboneShape,
    tensors: Mapping[str, StoredTensor],
) -> None:
    """Raise ArtifactError where settings ask for far more numbers than the file holds, or the file
    holds far more than they ask for: they would be allocated, or read, before their shapes could be
    compared.
    """
    labels, known = int(getattr(head, "num_labels", 2)), True
    form: HeadForm = getattr(head, "form", "mlp")
    try:
        asked = adapter.trained_parameters(shape)
    except ConfigError:  # LoRA of modules whose sizes no planner knows: bounded by its rank
        asked, known = 0, False
    asked += stored_task({"head": {"task": head.task}}).head_parameters(
        shape.hidden, num_labels=labels, form=form
    )
    held = sum(tensor.numbers for tensor in tensors.values())
    if asked > 2 * held + SLACK or (known and held > 2 * asked + SLACK):
        raise ArtifactError(
            f"{CONFIG_FILE} asks for {asked:,} parameters and {TENSOR_FILE} holds {held:,}: they "
            "do not belong together. Get the adapter again."
        )


def tensors_of(folder: str | Path) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of the artifact as it is stored, one at a time, by name."""
    path = Path(folder) / TENSOR_FILE
    try:
        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is not readable as safetensors: {error}") from error


def content_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Checksum of names, types, shapes and values, whatever their order in a file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        _add_content(digest, name, tensors[name])
    return digest.hexdigest()


def check_values(folder: str | Path) -> None:
    """Raise ArtifactError where the artifact's tensors are not those that were written, are not
    finite, or are not in float32.
    """
    path, digest = Path(folder) / TENSOR_FILE, hashlib.sha256()
    fault: ArtifactError | None = None
    for name, tensor in tensors_of(folder):
        _add_content(digest, name, tensor)
        try:
            check_finite(name, tensor.to(torch.float32))
        except ArtifactError as error:
            fault = fault or error
    with safe_open(path, "pt") as file:
        written = (file.metadata() or {}).get(CONTENT_SHA256)
    if written not in (None, digest.hexdigest()):
        raise ArtifactError(
            f"{path} is damaged: its values are not those that were written (their checksum "
            "differs). Take the adapter from where it came from again."
        )
    if fault is not None:
        raise fault


def _add_content(digest: Any, name: str, tensor: Tensor) -> None:
    plain = tensor.detach().cpu().contiguous()
    digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
    digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise ArtifactError for a tensor that is empty or not finite."""
    if tensor.numel() == 0:
        raise ArtifactError(f"{name} is empty: it was not gathered from its ZeRO shards.")
    if not torch.isfinite(tensor).all():
        raise ArtifactError(f"{name} holds values that are not finite: the adapter diverged.")


LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-3, 1e3
"""Wider than any fitted one (components/evaluation/temperature.py): beyond, every answer would be
certain or none would be.
"""


def read_temperature(folder: Path) -> float:
    """The temperature in calibration.json; 1 where there is none. Raises ArtifactError where it is
    no number that a fit can give.
    """
    path = folder / CALIBRATION_FILE
    fix = "Delete the file to answer uncalibrated."
    try:
        found = read_json(path)["temperature"]
    except FileNotFoundError:
        return 1.0
    except (ForeignFileError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} holds no readable temperature: {error}. {fix}") from error
    if type(found) not in (int, float) or not LOWEST_TEMPERATURE <= found <= HIGHEST_TEMPERATURE:
        raise ArtifactError(
            f"{path} holds temperature {json.dumps(found)[:100]}, expected a number from "
            f"{LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:g}. {fix}"
        )
    return float(found)
