"""Which backbone an adapter folder may bring to life: the one that its user names, or one that is
on this machine already. Nothing is downloaded at an adapter's word.

The fact a newcomer gets wrong: a hash in the folder tells that the weights are those it was trained
on, not that its author may be trusted. So both are asked.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.backbones import BackboneConfig, weights_sha256
from components.backbones.sources import INSTALLED_MODELS
from components.errors import ArtifactError, ConfigError
from components.settings import validate


def named_backbone(
    config: Mapping[str, Any], folder: Path, *, given: str | None = None, trusted: bool = False
) -> BackboneConfig:
    """The backbone to load for an adapter with this adapter_config.json.

    `given`: what the user names, a folder, an installed model or a hub id, in place of the
    adapter's own; the other settings of the backbone stay the adapter's. `trusted`: take the
    adapter's word (it comes from the user's own registry). Raises ArtifactError where the adapter
    does not say, where what it says is not on this machine, and where its weights are not those
    that the adapter was trained on.
    """
    section = config.get("backbone") or {}
    values = section.get("load")
    if values is None and given is None:
        raise ArtifactError(
            f"'{folder}' does not say how to load its backbone (backbone.load in "
            "adapter_config.json). Give --backbone, or load the backbone yourself and call "
            "components.adapters.load_adapter."
        )
    if not isinstance(values, dict | None):
        raise ArtifactError(f"'{folder}': backbone.load is {_shown(values)}, expected an object.")
    if given is not None:
        values = _in_place_of(values or {"family": section.get("family")}, given)
    try:
        backbone = validate(BackboneConfig, values or {})
    except ConfigError as error:
        raise ArtifactError(f"'{folder}': backbone.load: {error}") from error
    if given is None and not trusted:
        _check_on_this_machine(backbone, folder)
        if section.get("weights_sha256") is None and backbone.source != "installed":
            warnings.warn(
                f"'{folder}' records no hash of the weights it was trained on: those of "
                f"'{backbone.name_or_path}' are taken for them.",
                stacklevel=2,
            )
    _check_weights(backbone, section.get("weights_sha256"), folder)
    return backbone


def _in_place_of(values: Mapping[str, Any], given: str) -> dict[str, Any]:
    if Path(given).is_dir():
        place = {"source": "local", "name_or_path": str(Path(given).resolve()), "revision": None}
    elif given in INSTALLED_MODELS:
        place = {"source": "installed", "name_or_path": given, "revision": None}
    else:
        same = values.get("source") == "hub" and values.get("name_or_path") == given
        revision = values.get("revision") if same else None
        place = {"source": "hub", "name_or_path": given, "revision": revision}
    return {**values, **place}


def _check_on_this_machine(backbone: BackboneConfig, folder: Path) -> None:
    name = backbone.name_or_path
    if backbone.source == "hub" and not _in_the_hubs_cache(backbone):
        raise ArtifactError(
            f"'{folder}' was trained on the hub model '{name}', which is not on this machine, and "
            f"nothing is downloaded at an adapter's word. To take it: --backbone {name} (or the "
            "folder of a copy)."
        )
    if backbone.source == "local":
        place = Path(name).resolve()
        if place.is_relative_to(folder.resolve()):
            raise ArtifactError(
                f"'{folder}' brings a backbone of its own, which nobody here has allowed. To take "
                f"it: --backbone {place}."
            )
        if not place.is_dir():
            raise ArtifactError(
                f"'{folder}' was trained on the backbone in '{name}', which is not on this "
                "machine. Give a copy: --backbone FOLDER."
            )


def _in_the_hubs_cache(backbone: BackboneConfig) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(
            backbone.name_or_path, "config.json", revision=backbone.revision
        )
    except HFValidationError:
        return False
    return isinstance(found, str)


def _check_weights(backbone: BackboneConfig, recorded: Any, folder: Path) -> None:
    """Folders written before hashes were recorded have none."""
    if recorded is None:
        return
    if not isinstance(recorded, str):
        raise ArtifactError(
            f"'{folder}': backbone.weights_sha256 is {_shown(recorded)}, expected text."
        )
    if (found := weights_sha256(backbone)) != recorded:
        raise ArtifactError(
            f"'{folder}' was trained on weights with sha256 {recorded[:64]}, and those of "
            f"'{backbone.name_or_path}' have {found}. Give the backbone it was trained on: "
            "--backbone FOLDER."
        )


def _shown(value: Any) -> str:
    return json.dumps(value)[:100]
